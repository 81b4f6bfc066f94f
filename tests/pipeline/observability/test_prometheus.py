"""The metrics of a run for Prometheus."""

import pytest

from pipeline.observability.progress import Display, observed_by
from pipeline.observability.prometheus import NAMES, OF_A_STAGE, RunMetrics, StageMetrics

Values = dict[tuple[str, ...], float]


def test_values_are_set_with_their_tags(gauges: Values) -> None:
    metrics = RunMetrics("demo", groups=4, done=1)
    metrics.checkpointed(2, 3.5)
    metrics.measured(2, 1.5, 200.0)
    metrics.rate(7.5)
    assert gauges == {
        ("m3d_groups", "demo"): 4,
        ("m3d_groups_done", "demo"): 1,
        ("m3d_loss", "demo", "2"): 1.5,
        ("m3d_images_per_second", "demo", "2"): 200.0,
        ("m3d_checkpoint_age_seconds", "demo", "2"): 3.5,
        ("m3d_iterations_per_second", "demo"): 7.5,
    }
    before = dict(gauges)
    gauges.clear()
    metrics.refresh()
    assert gauges == pytest.approx(before, abs=1.0)  # the age of a checkpoint has grown


def test_every_metric_can_be_set(gauges: Values) -> None:
    metrics = RunMetrics("demo", groups=4, done=1)
    metrics.measured(2, 1.5, 200.0)
    metrics.rate(7.5)
    metrics.retried()
    metrics.idle(2)
    assert gauges[("m3d_images_per_second", "demo", "2")] == 0
    metrics.finished(2)
    assert gauges[("m3d_retries", "demo")] == 1
    assert gauges[("m3d_groups_done", "demo")] == 2
    assert gauges[("m3d_checkpoint_age_seconds", "demo", "2")] == 0
    assert {key[0] for key in gauges} == set(NAMES) - set(OF_A_STAGE)


def test_every_display_is_a_stage(gauges: Values, monkeypatch: pytest.MonkeyPatch) -> None:
    with observed_by(StageMetrics("demo")):
        monkeypatch.setattr("pipeline.observability.prometheus.ray.is_initialized", lambda: False)
        Display("prepare", 4).update(1, "")
        assert gauges == {}
        monkeypatch.setattr("pipeline.observability.prometheus.ray.is_initialized", lambda: True)
        Display("prepare", 4).update(1, "")
        display = Display("evaluate", 9.0)
        display.update(0, "")
        display.update(12.0, "")  # by rounding
    display.update(1, "")  # nobody observes any more
    left = gauges.pop(("m3d_stage_seconds_left", "demo", "prepare"))
    assert 0 <= left < 60
    gauges.pop(("m3d_stage_seconds_left", "demo", "evaluate"))
    assert gauges == {("m3d_stage_done", "demo", "prepare"): 0.25, ("m3d_stage_done", "demo", "evaluate"): 1.0}


def test_the_age_of_a_checkpoint_grows_until_the_group_is_finished(
    gauges: Values, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr("pipeline.observability.prometheus.time.monotonic", lambda: now[0])
    metrics = RunMetrics("demo", 1, 0)
    metrics.checkpointed(2, 3.5)
    now[0] += 60
    metrics.refresh()
    assert gauges[("m3d_checkpoint_age_seconds", "demo", "2")] == 63.5
    metrics.finished(2)
    now[0] += 60
    metrics.refresh()
    assert gauges[("m3d_checkpoint_age_seconds", "demo", "2")] == 0
