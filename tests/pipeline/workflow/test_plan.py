"""The plan command: what it predicts, and what it says."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import UserError
from pipeline.workflow.plan import Estimate, described, estimate
from tests.pipeline.support.runs import small_config

Call = Callable[..., tuple[int, list[str], str]]


def made(**changed: Any) -> Estimate:
    values: dict[str, Any] = {
        "start_s": 10.0,
        "compile_s": 20.0,
        "prepare_s": 5.0,
        "iteration_s": 0.5,
        "group_s": 5000.0,
        "condense_s": 10020.0,
        "network_s": 30.0,
        "networks": 9,
        "evaluate_s": 140.0,
        "actors": 2,
        "groups": 4,
        "actor_bytes": 2**30,
        "disk_bytes": 2**20,
        "device": "CPU",
        "execution": {"precision": "bfloat16", "compiled": True},
    }
    return Estimate(**{**values, **changed})


def test_arithmetic() -> None:
    assert made().total_s == 10 + 5 + 10020 + 140
    assert made().device_hours == 4 * 5000 / 3600
    assert made().hours_on(8) == made().device_hours / 8


def test_calibrates_on_the_cluster(ray_cluster: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.workflow.plan.CALIBRATION_S", 0.2)
    config = small_config()
    found = estimate(config)
    assert (found.groups, found.actors, found.networks) == (2, 2, 6)
    assert found.group_s == found.iteration_s * 40
    assert 0 < found.iteration_s < 5
    assert found.condense_s == pytest.approx(found.compile_s + found.group_s)
    assert found.execution["precision"] == "float32"
    assert found.disk_bytes > 700 * 64  # four classes of digits of 8 x 8 px


def test_says_what_it_will_take(capsys: pytest.CaptureFixture[str]) -> None:
    from pipeline.observability.progress import console

    console().print(described(made(), 8))
    told = capsys.readouterr().out
    assert "4 groups on 2 actors" in told
    assert "condense on 8 actors" in told
    assert "0:41:40" in told or "41:40" in told  # 4 x 5000 s over 8


def test_mistakes(call: Call, tmp_path: Path) -> None:
    assert call("plan", "--gpus", "0")[0] == 2
    code, errors, _ = call(
        "plan", "--preset", "cifar10_ipc1", "--data", str(tmp_path / "no"), "--set", "data.source=parquet"
    )
    assert code == 2
    assert "no" in errors[-1]
    with pytest.raises(UserError):
        estimate(small_config("data.source=image_folder", f"data.path={tmp_path / 'gone'}"))
