"""The display and the log of a training."""

import json
from pathlib import Path

import pytest

from pipeline import storage
from pipeline.config.run_config import Pretrain
from pipeline.formats.run_folder import RunFolder
from pipeline.observability import jsonl_log
from pipeline.observability.progress import Display
from pipeline.pretrain.events import (
    EpochDone,
    Event,
    Progress,
    Refused,
    TrajectoryDone,
    TrajectoryStarted,
    WorkerStarted,
)
from pipeline.pretrain.monitor import PretrainMonitor


def test_the_monitor_counts_notes_and_logs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tracked: list[tuple[object, ...]] = []
    monkeypatch.setattr("pipeline.pretrain.monitor.track", lambda *point: tracked.append(point))
    events: list[Event] = [
        WorkerStarted(rank=1, host="b", pid=2),
        WorkerStarted(rank=0, host="a", pid=1),
        TrajectoryStarted(seed=0, epoch=0, steps=10),
        Progress(seed=0, epoch=0, step=5, steps=10),
        EpochDone(seed=0, epoch=1, loss=2.5),
    ]
    display = Display("pretrain", 2 * 3 * 10)
    monitor = PretrainMonitor(display, RunFolder.at(tmp_path), Pretrain(epochs=3, trajectories=2), steps=10)
    monitor(events)
    assert (display.done, display.status) == (10, "network 1/2, epoch 2/3, loss 2.5000")
    assert tracked == [("pretrain/loss/seed-0", 2.5, 1, "epoch")]
    assert "lost" not in capsys.readouterr().out
    monitor([WorkerStarted(rank=0, host="a", pid=3), TrajectoryStarted(seed=1, epoch=2, steps=10)])
    output = capsys.readouterr().out
    assert "a worker was lost" in output
    assert "seed 1 resumes after epoch 2" in output
    assert (display.done, display.status[:22]) == (50, "network 2/2, epoch 3/3")
    logged = [json.loads(line)["event"] for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert logged == ["worker", "worker", "begin", "epoch", "worker", "begin"]
    monitor([Refused(why="a loss")])
    assert monitor.refused == "a loss"


def test_the_log_of_a_training_is_in_the_folder_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory: None
) -> None:
    monkeypatch.chdir(tmp_path)
    out = f"memory://{tmp_path.name}"
    monitor = PretrainMonitor(Display("pretrain", 1), RunFolder.at(out), Pretrain(epochs=1), steps=1)
    monitor([TrajectoryStarted(seed=0, epoch=0, steps=1)])
    jsonl_log.flush()
    assert '"begin"' in storage.read_bytes(f"{out}/events.jsonl").decode()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (WorkerStarted(rank=1, host="b", pid=2), '{"event": "worker", "rank": 1, "host": "b", "pid": 2}'),
        (TrajectoryStarted(seed=1, epoch=2, steps=3), '{"event": "begin", "seed": 1, "epoch": 2, "steps": 3}'),
        (EpochDone(seed=1, epoch=2, loss=0.5), '{"event": "epoch", "seed": 1, "epoch": 2, "loss": 0.5}'),
        (TrajectoryDone(seed=1, epoch=2), '{"event": "done", "seed": 1, "epoch": 2}'),
        (Refused(why="a loss"), '{"event": "refused", "why": "a loss"}'),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_lines_have_their_keys_in_order(tmp_path: Path, event: Event, line: str) -> None:
    PretrainMonitor(Display("pretrain", 1), RunFolder.at(tmp_path), Pretrain(epochs=1), steps=1)([event])
    time, _, rest = (tmp_path / "events.jsonl").read_text().partition(', "stage": "pretrain", ')
    assert time.startswith('{"time": ')
    assert "{" + rest == line + "\n"
