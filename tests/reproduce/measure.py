"""Runs one cell: condenses, evaluates and writes its result. Every step resumes where it was interrupted."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from m3d import training_of
from pipeline import storage
from pipeline.condense.manifest import CONDENSING_SECTIONS
from pipeline.config.parsing import differing_keys, from_dict, to_dict, with_settings
from pipeline.config.presets import preset
from pipeline.config.run_config import RunConfig
from pipeline.evaluate.dd_ranking import scores
from pipeline.evaluate.results import read_rows
from pipeline.evaluate.rows import EvaluationRow
from pipeline.formats.provenance import versions
from pipeline.formats.run_folder import RunFolder
from tests.reproduce.cells import Cell, OutOfTimeError

RESULTS = Path(__file__).resolve().parent.parent.parent / "docs" / "results"
SAME_DATA = ("name", "image_size", "channels", "classes", "test_fraction", "validation_fraction", "split_seed")
"""Keys of data.* that a run must share with a cell to be reused, wherever its images are stored."""
GRACE_S = 90.0
"""Seconds that a command has to save its state after it was asked to stop."""
ROW = ("set", "architecture", "protocol", "on", "augmentation", "labels", "mean", "std", "interval95", "accuracies")
ROW += ("seeds", "epochs", "epoch", "per_class", "best_epoch_compatibility", "images", "precision", "training")
"""Keys of a row of evaluation.json that a result keeps."""


def settings_of(cell: Cell, data: Path | None) -> list[str]:
    """Settings that differ from the preset, including the kind of source."""
    parquet = data is not None and any(data.glob("*.parquet"))
    return [*cell.settings, *(["data.source=parquet"] if parquet else [])]


def config_of(cell: Cell, data: Path | None) -> RunConfig:
    """The full configuration that a cell condenses with."""
    return with_settings(preset(cell.preset), settings_of(cell, data))


def condense_command(cell: Cell, data: Path | None, place: str, out: str) -> list[str]:
    """Arguments after ``python -m pipeline`` that condense the cell; ``place`` is the folder of the data."""
    chosen = [part for setting in settings_of(cell, data) for part in ("--set", setting)]
    return ["condense", "--preset", cell.preset, *(["--data", place] if data else []), *chosen, "--out", out]


def pretrain_command(cell: Cell, out: str) -> list[str]:
    """Arguments after ``python -m pipeline`` that measure the row of the whole set."""
    chosen = ["--set", f"pretrain.trajectories={cell.trajectories}"]
    return ["pretrain", "--config", f"{out}/config.json", "--out", out, *chosen]


def evaluate_command(cell: Cell, out: str) -> list[str]:
    """Arguments after ``python -m pipeline`` that evaluate the cell."""
    names = ["--architectures", ",".join(cell.architectures), "--sets", ",".join(cell.sets)]
    return ["evaluate", out, *names, "--seeds", str(cell.seeds)]


def run(cell: Cell, *, data: Path | None, work: Path, runs: Path | None, ends: float) -> dict[str, Any]:
    """Does the missing steps of a cell and returns its result.

    Args:
        cell: the cell to measure.
        data: folder of its images; None for digits.
        work: folder below which its run is stored.
        runs: folder of runs that may be reused, if any.
        ends: ``time.monotonic()`` at which to stop.

    Raises:
        OutOfTimeError: if the time ends before the cell is finished.
        subprocess.CalledProcessError: if a command fails.
    """
    reused = reusable_run(cell, data, runs)
    out = reused or work / cell.name
    if not (reused and RunFolder.at(out).is_committed()):
        arguments = condense_command(cell, data, str(data), str(out))
        if reused:  # its own record names the folder of its images
            arguments = ["condense", "--config", str(out / "config.json"), "--out", str(out)]
        pipeline(arguments, ends)
    if cell.trajectories:
        pipeline(pretrain_command(cell, str(out)), ends)
    pipeline(evaluate_command(cell, str(out)), ends)
    return result(cell, out, data)


def reusable_run(cell: Cell, data: Path | None, runs: Path | None) -> Path | None:
    """The folder of a run that condenses and trains as the cell does: ``runs`` itself or a folder in it. None if there is none."""
    if runs is None:
        return None
    wanted = _deciding(config_of(cell, data))
    for folder in [runs, *sorted(path for path in runs.iterdir() if path.is_dir())]:
        record = RunFolder.at(folder).read_record()
        if record is not None:
            stored = _deciding(from_dict(record, origin=str(folder)))
            if not differing_keys(stored, wanted):
                return folder
    return None


def _deciding(config: RunConfig) -> dict[str, Any]:
    """The settings that decide the figures of a cell."""
    values, evaluate = to_dict(config), config.evaluate
    evaluation = {"training": asdict(training_of(evaluate)), "on": evaluate.on, "labels": evaluate.labels}
    data = {key: values["data"][key] for key in SAME_DATA}
    return {**{key: values[key] for key in CONDENSING_SECTIONS}, "data": data, "evaluation": evaluation}


def pipeline(arguments: Sequence[str], ends: float) -> None:
    """Runs a command until it ends or the time is used up, at which it saves its state."""
    if time.monotonic() >= ends:
        raise OutOfTimeError
    command = [sys.executable, "-m", "pipeline", *arguments]
    print("$ python -m pipeline", shlex.join(arguments), flush=True)
    with subprocess.Popen(command, env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0"}) as process:
        try:
            code = process.wait(timeout=max(1.0, ends - time.monotonic()))
        except subprocess.TimeoutExpired:
            _stop(process)
            raise OutOfTimeError from None
        except BaseException:
            _stop(process)
            raise
    if code:
        raise subprocess.CalledProcessError(code, command)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Asks the command to save its state. Returns when it has ended, so that the next command can take the run's lease."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(timeout=GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def result(cell: Cell, out: Path, data: Path | None) -> dict[str, Any]:
    """The file of a finished cell: without a path, a host or a time."""
    record = RunFolder.at(out).read_record()
    assert record is not None
    config, resolved = from_dict(record, origin=str(out)), record["resolved"]
    asked = [
        row
        for row in read_rows(RunFolder.at(out))
        if row["architecture"] in cell.architectures
        and (row["set"] == "whole" or (row["set"] in cell.sets and row["protocol"] == config.evaluate.protocol))
        and (row["augmentation"], row["labels"], row["on"]) == ("protocol", "hard", config.evaluate.on)
    ]
    commands = [condense_command(cell, data, "DIR", "OUT"), evaluate_command(cell, "OUT")]
    if cell.trajectories:
        commands.insert(1, pretrain_command(cell, "OUT"))
    condense = to_dict(config)["condense"]
    execution: Any = resolved["execution"] or {}
    return {
        "cell": cell.name,
        "preset": cell.preset,
        "comparable": cell.comparable,
        "commands": [f"python -m pipeline {shlex.join(command)}" for command in commands],
        "commit": {"condensed": record.get("commit"), "evaluated": _commits(asked)},
        "hardware": {
            "condensed": f"{resolved['device']}, {execution.get('precision')}",
            "evaluated": _joined(asked, "device"),
        },
        "versions": versions(),
        "schedule": {key: condense[key] for key in ("iterations", "images_per_class", "factor", "batch_real", "start")}
        | {"learning_rate": resolved["learning_rate"], "seed": config.seed, "encoder": config.encoder.name},
        "rows": [{key: row.get(key) for key in ROW if key in row} for row in asked],
        "scores": [score for score in scores(asked) if score["ior"] is not None],
    }


def _commits(rows: Sequence[EvaluationRow]) -> str:
    """Each that had a part in a row, once."""
    return ", ".join(sorted(set(_joined(rows, "commit").split(", "))))


def _joined(rows: Sequence[EvaluationRow], key: str) -> str:
    """What the rows that were evaluated say of themselves, not what holds now: an evaluation may have been finished before."""
    return ", ".join(sorted({str(row.get(key) or "unknown") for row in rows if row["set"] != "whole"}))


def write(measured: dict[str, Any], folder: Path = RESULTS) -> None:
    """Writes docs/results/NAME.json atomically."""
    storage.write_bytes(str(folder / f"{measured['cell']}.json"), (json.dumps(measured, indent=1) + "\n").encode())
