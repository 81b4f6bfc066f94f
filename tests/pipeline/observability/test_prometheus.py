"""The metrics of a run for Prometheus."""

import pytest

from pipeline.observability.prometheus import NAMES, RunMetrics

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
    assert {key[0] for key in gauges} == set(NAMES)


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
