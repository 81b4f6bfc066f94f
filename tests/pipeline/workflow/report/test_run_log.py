"""What the page reads from the logs of a run."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.condense.manifest import new_record
from pipeline.formats.run_folder import RunFolder
from pipeline.workflow.report.curves import curves
from pipeline.workflow.report.run_log import absolute_loss, history, loss_lines, relative_loss, throughput
from tests.pipeline.support.rows import stored_row
from tests.pipeline.support.runs import placement_of, prepared, small_config


def log(path: Path, lines: list[dict[str, Any]]) -> None:
    path.write_text("\n".join(map(json.dumps, lines)) + '\n{"iterat')


def loss_line(iteration: int, loss: float, start: float | None, group: int = 0) -> dict[str, Any]:
    labels = {str(2 * group): loss, str(2 * group + 1): 2 * loss}
    starts = {} if start is None else {"start_loss": {str(2 * group): start, str(2 * group + 1): 2 * start}}
    return {"iteration": iteration, "group": group, "loss": labels, "images_per_s": 100.0 * iteration, **starts}


def test_a_loss_is_relative_to_the_start_under_the_same_encoder(tmp_path: Path) -> None:
    # The second encoder has losses ten times as large: the plain loss rises, the images have come closer.
    lines = [loss_line(1, 1.0, 1.0, g) for g in (0, 1)] + [loss_line(50, 5.0, 10.0, g) for g in (0, 1)]
    log(tmp_path / "metrics.jsonl", [*lines, loss_line(60, 5.0, None), loss_line(70, 5.0, 1.0)])
    read = loss_lines(RunFolder.at(tmp_path))
    relative, absolute = relative_loss(read), absolute_loss(read)
    assert relative is not None
    assert absolute is not None
    assert (relative.iterations, relative.mean) == ([1, 50], [1.0, 0.5])
    assert absolute.mean == [1.5, 7.5]
    assert (rate := throughput(read)) is not None
    assert rate.mean == [100.0, 5000.0]
    titles = [plot.title for plot in curves(RunFolder.at(tmp_path))]
    assert titles == ["Loss relative to the start", "Throughput"]


def test_the_log_of_an_older_version_is_drawn_with_a_warning(tmp_path: Path) -> None:
    log(tmp_path / "metrics.jsonl", [loss_line(1, 1.0, None), loss_line(50, 5.0, None)])
    plot = curves(RunFolder.at(tmp_path))[0]
    assert plot.title == "Loss"
    assert "older version" in plot.text


def test_accuracies_during_the_training_are_drawn_on_one_pair_of_axes(tmp_path: Path) -> None:
    best: dict[str, Any] = {"every": 5, "mean": 60.0, "curves": [[10.0, 50.0], [20.0, 60.0]]}
    rows = [stored_row(name, 55.0, best_epoch_compatibility=best) for name in ("condensed", "random")]
    rows.append(stored_row("condensed", 50.0, architecture="mlp", best_epoch_compatibility=best))
    (plot,) = curves(RunFolder.at(tmp_path), rows)
    assert plot.title == "Accuracy during the training"
    assert [name in plot.svg for name in (">condensed<", ">random<", ">mlp<")] == [True, True, False]
    assert "accuracy on test images, %" in plot.svg


def test_without_logs_there_are_no_curves(tmp_path: Path) -> None:
    assert curves(RunFolder.at(tmp_path)) == []


@pytest.mark.parametrize("with_events", [True, False])
def test_the_history_counts_attempts_and_what_went_wrong(tmp_path: Path, with_events: bool) -> None:
    config = small_config()
    record = new_record(config, prepared(config, tmp_path), placement_of(config))
    events = [
        {"time": 100.0, "event": "ready", "device": "CPU"},
        {"time": 101.0, "event": "begin", "group": 0, "iteration": 0},
        {"time": 105.0, "event": "lost", "group": 0, "why": "actor died, see /home/me/ray/log.txt"},
        {"time": 106.0, "event": "begin", "group": 0, "iteration": 2},
        {"time": 106.0, "event": "begin", "stage": "pretrain", "seed": 0},
        {"time": 101.0, "event": "begin", "group": 1, "iteration": 0},
        {"time": 119.0, "event": "done", "group": 1, "retries": 2},
        {"time": 120.0, "event": "done", "group": 0},
    ]
    if with_events:
        log(tmp_path / "events.jsonl", events)
    facts = dict(history(RunFolder.at(tmp_path), record))
    assert facts["GPU share"] == "no GPU was used"
    if not with_events:
        assert facts["Time"].startswith("unknown")
        return
    assert facts["Time from the first actor to the last group"] == "0:20 min:s"
    assert facts["Actors"] == "2, busy for 90 % of the time"
    assert facts["Groups of classes"] == "2, in 3 attempts"
    assert facts["Actors lost and groups given back"] == "1"
    assert facts["Requests to the storage sent again"] == "2"
    assert facts["Reasons"] == "actor died, see …/log.txt"
