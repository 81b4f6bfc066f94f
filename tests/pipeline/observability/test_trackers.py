"""What reaches MLflow and W&B, and what a tracker that fails costs: a line, never the run."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.errors import FailedError, Interrupted, UserError
from pipeline.observability.progress import Display
from pipeline.observability.trackers import batch, tracker
from pipeline.observability.trackers.batch import Batch, Point
from pipeline.observability.trackers.tracking import (
    require_installed,
    track,
    track_results,
    track_settings,
    tracked_by,
)
from pipeline.storage.documents import sealed
from tests.pipeline.support.trackers import Recording, recording_package

PATIENCE_S = 120.0


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracker, "CLOSE_S", PATIENCE_S)
    monkeypatch.setattr(tracker, "GATHER_S", 0.05)


@pytest.fixture
def recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recording:
    return recording_package(tmp_path, monkeypatch)


def until(holds: Callable[[], object]) -> None:
    """Waits until something holds."""
    ends = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < ends, "waited in vain"
        time.sleep(0.02)


def test_everything_arrives_and_the_next_call_continues_the_run(
    tmp_path: Path, recording: Recording, capsys: pytest.CaptureFixture[str]
) -> None:
    document = str(tmp_path / "trackers.json")
    with tracked_by(["wandb"], name="mine", document=document):
        track_settings({"seed": 1, "data": {"classes": ("a", "b"), "name": None}})
        track("loss/group-00000", 2.0, 10, "iteration")
        track("images_per_second/group-00000", 30.0, 10, "iteration")
        track("loss/group-00000", 1.0, 20, "iteration")
        track_results({"accuracy/condensed/convnet3/mean": 90.0})
    assert recording.calls("init") == [None]
    assert recording.calls("name") == ["mine"]
    assert recording.calls("settings") == [{"seed": 1, "data.classes": "('a', 'b')", "data.name": "None"}]
    assert recording.calls("log") == [
        {"loss/group-00000": 2.0, "images_per_second/group-00000": 30.0, "iteration": 10},
        {"loss/group-00000": 1.0, "iteration": 20},
    ]
    assert sorted(map(str, recording.calls("metric"))) == ["images_per_second/group-00000", "loss/group-00000"]
    assert recording.calls("result") == ["accuracy/condensed/convnet3/mean"]
    assert recording.calls("finish") == [0]
    assert json.loads(Path(document).read_text())["wandb"] == "abc-1"

    with tracked_by(["wandb"], name="mine", document=document):
        pass
    assert recording.calls("init") == [None, "abc-1"]
    assert capsys.readouterr().out == ""


def test_the_progress_of_stages_is_tracked_per_cent(tmp_path: Path, recording: Recording) -> None:
    with tracked_by(["wandb"], name="mine", document=str(tmp_path / "t.json")), Display("evaluate", 1000) as display:
        for done in range(0, 1001):
            display.update(done, "")
    logged = [call for call in recording.calls("log") if isinstance(call, dict)]
    assert [call["percent"] for call in logged] == list(range(101))
    assert all(call["stage/evaluate/seconds"] >= 0 for call in logged)
    assert logged[-1]["stage/evaluate/seconds_left"] == 0


@pytest.mark.parametrize(("error", "code"), [(FailedError("x"), 1), (Interrupted("x"), 1), (KeyboardInterrupt(), 1)])
def test_how_the_command_ended(tmp_path: Path, recording: Recording, error: BaseException, code: int) -> None:
    with pytest.raises(type(error)), tracked_by(["wandb"], name="mine", document=str(tmp_path / "t.json")):
        raise error
    assert recording.calls("finish") == [code]


def test_a_tracker_that_fails_costs_one_line(
    tmp_path: Path, recording: Recording, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracker, "RETRY_S", 0.1)
    recording.trouble("always")
    with tracked_by(["wandb"], name="mine", document=str(tmp_path / "t.json")):
        for step in range(3):
            track("loss", 1.0, step, "iteration")
        until(lambda: "wandb" in capsys.readouterr().out)
    assert capsys.readouterr().out == ""  # tried again, and failed again
    assert not (tmp_path / "t.json").exists()


def test_what_failed_is_sent_again(
    tmp_path: Path, recording: Recording, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracker, "RETRY_S", 0.0)
    with tracked_by(["wandb"], name="mine", document=str(tmp_path / "t.json")):
        track("loss", 3.0, 0, "iteration")
        until(lambda: recording.calls("log"))
        recording.trouble("once")
        track("loss", 2.0, 1, "iteration")
        until(lambda: not (recording.folder / "trouble").exists())
        track("loss", 1.0, 2, "iteration")
    assert [call["loss"] for call in recording.calls("log") if isinstance(call, dict)] == [3.0, 2.0, 1.0]
    assert recording.calls("init") == [None, "abc-1"]  # in another process
    line = capsys.readouterr().out
    assert line == "wandb: the server is away; the run goes on, and what is missing there is in its folder\n"


def test_a_tracker_that_hangs_is_given_up(
    tmp_path: Path, recording: Recording, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracker, "CLOSE_S", 0.5)
    recording.trouble("hang")
    with tracked_by(["wandb"], name="mine", document=str(tmp_path / "t.json")):
        track("loss", 1.0, 0, "iteration")
        until(lambda: recording.calls("pid"))
        left = time.monotonic()
    assert time.monotonic() - left < PATIENCE_S / 4
    assert capsys.readouterr().out.startswith("wandb: does not answer; the run goes on")
    (pid,) = recording.calls("pid")
    with pytest.raises(ProcessLookupError):
        os.kill(int(str(pid)), 0)


@pytest.mark.parametrize("content", ["{", json.dumps(sealed({"wandb": "../x"})), json.dumps({"wandb": "abc-1"})])
def test_a_damaged_document_costs_one_line(
    tmp_path: Path, recording: Recording, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    document = tmp_path / "trackers.json"
    document.write_text(content)
    with tracked_by(["wandb"], name="mine", document=str(document)):
        track("loss", 1.0, 0, "iteration")
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"wandb: {document}: ")
    assert recording.calls("init") == []
    assert document.read_text() == content


def test_nothing_is_started_without_trackers(tmp_path: Path, recording: Recording) -> None:
    with tracked_by([], name="mine", document=str(tmp_path / "t.json")):
        track("loss", 1.0, 0, "iteration")
        track_results({"a": 1.0})
        track_settings({"a": 1})
    assert recording.calls("init") == []


def test_the_oldest_points_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "MOST_POINTS", 2)
    points = [Point(name="loss", value=1.0, step=step, axis="iteration", time=0.0) for step in range(3)]
    joined = Batch(points=tuple(points[:2])).joined(Batch(points=(points[2],), results={"a": 1.0}))
    assert joined == Batch(points=tuple(points[1:]), results={"a": 1.0})
    assert batch.batch_of(batch.line_of(joined)) == joined


def test_a_missing_package_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a_tracker").mkdir()  # as W&B leaves a folder where it ran
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("a_tracker", "another_tracker"):
        with pytest.raises(UserError, match=f"report.loggers: {name} is not installed; run `pip install {name}`"):
            require_installed("report.loggers", [name])
    require_installed("report.loggers", ["json"])


# The packages themselves, where they are installed


@pytest.mark.slow
def test_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("mlflow", exc_type=ImportError)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.chdir(tmp_path)
    document = tmp_path / "trackers.json"
    for actors in (1, 2):
        with tracked_by(["mlflow"], name="mine", document=str(document)):
            track_settings({"resources": {"actors": actors}, "condense": {"iterations": 5 * actors}})
            track("loss/group-00000", 1.0 / actors, 10 * actors, "iteration")
            track_results({"accuracy/condensed/convnet3/mean": 90.0})
    assert capsys.readouterr().out == ""
    run_id = json.loads(document.read_text())["mlflow"]
    (run,) = (tmp_path / "mlruns").glob(f"*/{run_id}")
    assert (run / "params" / "resources.actors").read_text() == "1"  # a parameter cannot change
    losses = (run / "metrics" / "loss" / "group-00000").read_text().splitlines()
    assert [line.split()[1:] for line in losses] == [["1.0", "10"], ["0.5", "20"]]
    accuracies = (run / "metrics" / "accuracy" / "condensed" / "convnet3" / "mean").read_text().splitlines()
    assert [line.split()[1] for line in accuracies] == ["90.0"]
    assert "status: 3" in (run / "meta.yaml").read_text()  # finished

    document.write_text(json.dumps(sealed({"mlflow": "0" * 32})))  # of another server
    with tracked_by(["mlflow"], name="mine", document=str(document)):
        pass
    assert capsys.readouterr().out == ""
    assert json.loads(document.read_text())["mlflow"] not in (run_id, "0" * 32)


@pytest.mark.slow
def test_wandb_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("wandb", exc_type=ImportError)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    document = tmp_path / "trackers.json"
    for _ in range(2):
        with tracked_by(["wandb"], name="mine", document=str(document)):
            track_settings({"condense": {"iterations": 5}})
            track("loss/group-00000", 1.0, 10, "iteration")
            track_results({"accuracy/condensed/convnet3/mean": 90.0})
    assert capsys.readouterr().out == ""
    run_id = json.loads(document.read_text())["wandb"]
    files = list((tmp_path / "wandb").glob(f"offline-run-*-{run_id}/run-{run_id}.wandb"))
    assert files
    content = b"".join(path.read_bytes() for path in files)
    assert b"loss/group-00000" in content
    assert b"accuracy/condensed/convnet3/mean" in content
    assert str(tmp_path).encode() not in content
