"""What a complete run sends to a tracker, through the command line."""

import json
from pathlib import Path

import pytest

from pipeline.cli.main import main
from tests.pipeline.support.trackers import recording_package
from tests.pipeline.workflow.test_run import ENVIRONMENT, SMALL, pipeline


@pytest.mark.slow
@pytest.mark.timeout(500)
def test_a_run_and_its_evaluation_are_one_run_of_the_tracker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recording = recording_package(tmp_path, monkeypatch)
    monkeypatch.setitem(ENVIRONMENT, "PYTHONPATH", str(recording.folder))
    monkeypatch.setitem(ENVIRONMENT, "RECORDED", str(recording.folder))
    out = tmp_path / "run"
    done = pipeline("run", *SMALL, "--set", "report.loggers=wandb", "--set", "data.disk_cache=/mine", "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert "wandb:" not in done.stdout
    settings = [call for call in recording.calls("settings") if isinstance(call, dict)]
    assert settings[0]["condense.iterations"] == 60
    assert settings[0]["data.source"] == "digits"
    assert settings[0]["data.disk_cache"] == "None"  # places stay at home
    logged = {name for call in recording.calls("log") if isinstance(call, dict) for name in call}
    assert {"loss/group-00000", "images_per_second/group-00000", "stage/condense/seconds", "iteration"} <= logged
    assert "stage/evaluate/seconds" in logged
    assert recording.calls("finish") == [0]
    rows = json.loads((out / "evaluation.json").read_text())["results"]
    means = [f"accuracy/{row['set']}/convnet1/mean" for row in rows]
    assert len(means) == 3
    assert {*means} <= {*recording.calls("result")}

    # A folder's configuration is not believed about trackers; the command line is.
    evaluate = ("evaluate", str(out), "--seeds", "3", "--sets", "random")
    assert pipeline(*evaluate).returncode == 0
    assert recording.calls("init") == [None]
    assert pipeline(*evaluate, "--set", "report.loggers=wandb").returncode == 0
    assert recording.calls("init") == [None, "abc-1"]
    assert recording.calls("result").count("accuracy/random/convnet1/mean") == 2


def test_a_missing_tracker_is_refused_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    out = tmp_path / "run"
    assert main(["run", *SMALL, "--set", "report.loggers=mlflow", "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert "report.loggers: mlflow is not installed; run `pip install mlflow`, or leave it out" in error
    assert len(error.splitlines()) == 1
    assert not out.exists()
