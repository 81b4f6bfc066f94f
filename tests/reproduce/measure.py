"""Runs one cell: condense, evaluate, and its row as a file. Every step goes on where it was interrupted."""

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
from pipeline.condense.manifest import METHOD
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
"""Of data.*: what a run must share with a cell to be taken over, wherever its images lie."""
GRACE_S = 90.0
"""That a command has to save what it holds after it was asked to stop."""
ROW = ("set", "architecture", "protocol", "on", "augmentation", "labels", "mean", "std", "interval95", "accuracies")
ROW += ("seeds", "epochs", "epoch", "per_class", "best_epoch_compatibility", "images", "precision", "training")
"""What a result keeps of a row of evaluation.json."""


def settings_of(cell: Cell, data: Path | None) -> list[str]:
    """Settings beyond the preset, with the kind of the data's files."""
    parquet = data is not None and any(data.glob("*.parquet"))
    return [*cell.settings, *(["data.source=parquet"] if parquet else [])]


def config_of(cell: Cell, data: Path | None) -> RunConfig:
    """The whole configuration that a cell condenses with."""
    return with_settings(preset(cell.preset), settings_of(cell, data))


def condense_command(cell: Cell, data: Path | None, place: str, out: str) -> list[str]:
    """Arguments after ``python -m pipeline``; ``place`` stands for the data's folder."""
    chosen = [part for setting in settings_of(cell, data) for part in ("--set", setting)]
    return ["condense", "--preset", cell.preset, *(["--data", place] if data else []), *chosen, "--out", out]


def pretrain_command(cell: Cell, out: str) -> list[str]:
    """Arguments after ``python -m pipeline``: the row of the whole set."""
    chosen = ["--set", f"pretrain.trajectories={cell.trajectories}"]
    return ["pretrain", "--config", f"{out}/config.json", "--out", out, *chosen]


def evaluate_command(cell: Cell, out: str) -> list[str]:
    """Arguments after ``python -m pipeline``."""
    names = ["--architectures", ",".join(cell.architectures), "--sets", ",".join(cell.sets)]
    return ["evaluate", out, *names, "--seeds", str(cell.seeds)]


def run(cell: Cell, *, data: Path | None, work: Path, runs: Path | None, ends: float) -> dict[str, Any]:
    """Does what is missing of a cell and returns its result.

    Args:
        cell: what to measure.
        data: folder of its images; none for digits.
        work: where its run lies, or will lie.
        runs: folder of runs that may be taken over.
        ends: ``time.monotonic()`` at which to stop.

    Raises:
        OutOfTimeError: ``ends`` came first.
        subprocess.CalledProcessError: a command failed.
    """
    taken = taken_over(cell, data, runs)
    out = taken or work / cell.name
    if not (taken and RunFolder.at(out).is_committed()):
        arguments = condense_command(cell, data, str(data), str(out))
        if taken:  # its own record says where its images lie
            arguments = ["condense", "--config", str(out / "config.json"), "--out", str(out)]
        pipeline(arguments, ends)
    if cell.trajectories:
        pipeline(pretrain_command(cell, str(out)), ends)
    pipeline(evaluate_command(cell, str(out)), ends)
    return result(cell, out, data)


def taken_over(cell: Cell, data: Path | None, runs: Path | None) -> Path | None:
    """A run among ``runs`` (the folder itself or one in it) that condenses and trains as the cell does, if there is one."""
    if runs is None:
        return None
    wanted = _deciding(config_of(cell, data))
    for folder in [runs, *sorted(path for path in runs.iterdir() if path.is_dir())]:
        record = RunFolder.at(folder).read_record()
        if record is not None:
            held = _deciding(from_dict(record, origin=str(folder)))
            if not differing_keys(held, wanted):
                return folder
    return None


def _deciding(config: RunConfig) -> dict[str, Any]:
    values, evaluate = to_dict(config), config.evaluate
    evaluation = {"training": asdict(training_of(evaluate)), "on": evaluate.on, "labels": evaluate.labels}
    data = {key: values["data"][key] for key in SAME_DATA}
    return {**{key: values[key] for key in METHOD}, "data": data, "evaluation": evaluation}


def pipeline(arguments: Sequence[str], ends: float) -> None:
    """Runs a command until it ends or the time is used up; it saves what it holds then."""
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
    """Has it save what it holds; returns when it has ended, so that the next command finds the run free."""
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
        "commands": [f"python -m pipeline {shlex.join(one)}" for one in commands],
        "commit": {"condensed": record.get("commit"), "evaluated": _commits(asked)},
        "hardware": {
            "condensed": f"{resolved['device']}, {execution.get('precision')}",
            "evaluated": _said(asked, "device"),
        },
        "versions": versions(),
        "schedule": {key: condense[key] for key in ("iterations", "images_per_class", "factor", "batch_real", "start")}
        | {"learning_rate": resolved["learning_rate"], "seed": config.seed, "encoder": config.encoder.name},
        "rows": [{key: row.get(key) for key in ROW if key in row} for row in asked],
        "scores": [score for score in scores(asked) if score["ior"] is not None],
    }


def _commits(rows: Sequence[EvaluationRow]) -> str:
    """Each that had a part in a row, once."""
    return ", ".join(sorted(set(_said(rows, "commit").split(", "))))


def _said(rows: Sequence[EvaluationRow], key: str) -> str:
    """What the rows that were evaluated say of themselves, not what holds now: an evaluation may have been finished before."""
    return ", ".join(sorted({str(row.get(key) or "unknown") for row in rows if row["set"] != "whole"}))


def write(found: dict[str, Any], folder: Path = RESULTS) -> None:
    """docs/results/NAME.json, whole or not at all."""
    storage.write_bytes(str(folder / f"{found['cell']}.json"), (json.dumps(found, indent=1) + "\n").encode())
