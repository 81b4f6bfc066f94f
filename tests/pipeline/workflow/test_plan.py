"""The plan command: what it predicts and prints."""

from collections.abc import Callable
from pathlib import Path

import pytest

from m3d.backend.execution import Execution
from pipeline.errors import UserError
from pipeline.workflow.plan import CondenseEstimate, Estimate, EvaluateEstimate, described, estimate
from tests.pipeline.support.runs import small_config

Call = Callable[..., tuple[int, list[str], str]]


@pytest.fixture
def expected() -> Estimate:
    """A prediction in round numbers."""
    execution = Execution(precision="bfloat16", compiled=True, real_block=1, synthetic_block=1)
    return Estimate(
        start_s=10.0,
        prepare_s=5.0,
        condense=CondenseEstimate(
            compile_s=20.0,
            iteration_s=0.5,
            group_s=5000.0,
            total_s=10020.0,
            actors=2,
            groups=4,
            actor_bytes=2**30,
            device="CPU",
            execution=execution,
        ),
        evaluate=EvaluateEstimate(network_s=30.0, networks=9, total_s=140.0),
        disk_bytes=2**20,
    )


def test_arithmetic(expected: Estimate) -> None:
    assert expected.total_s == 10 + 5 + 10020 + 140
    assert expected.condense.device_hours == 4 * 5000 / 3600
    assert expected.condense.hours_on(8) == expected.condense.device_hours / 8


def test_calibrates_on_the_cluster(ray_cluster: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.workflow.plan.CALIBRATION_S", 0.2)
    predicted = estimate(small_config())
    condense = predicted.condense
    assert (condense.groups, condense.actors, predicted.evaluate.networks) == (2, 2, 6)
    assert condense.group_s == condense.iteration_s * 40
    assert 0 < condense.iteration_s < 5
    assert condense.total_s == pytest.approx(condense.compile_s + condense.group_s)
    assert condense.execution.precision == "float32"
    assert predicted.disk_bytes > 700 * 64  # four classes of digits of 8 x 8 px


def test_prints_what_a_run_will_take(expected: Estimate, capsys: pytest.CaptureFixture[str]) -> None:
    from pipeline.observability.progress import console

    console().print(described(expected, 8))
    printed = capsys.readouterr().out
    assert "4 groups on 2 actors" in printed
    assert "bfloat16, compiled" in printed
    assert "condense on 8 actors" in printed
    assert "0:41:40" in printed or "41:40" in printed  # 4 x 5000 s over 8


def test_mistakes(call: Call, tmp_path: Path) -> None:
    assert call("plan", "--gpus", "0")[0] == 2
    code, errors, _ = call(
        "plan", "--preset", "cifar10_ipc1", "--data", str(tmp_path / "no"), "--set", "data.source=parquet"
    )
    assert code == 2
    assert "no" in errors[-1]
    with pytest.raises(UserError):
        estimate(small_config("data.source=image_folder", f"data.path={tmp_path / 'gone'}"))
