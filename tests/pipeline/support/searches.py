"""Example searches and small real ones, for the tests of ``tune``."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.config.parsing import from_dict
from pipeline.tune.results import SearchResult
from pipeline.tune.search_folder import FinalRow
from pipeline.tune.space import Space, Values, default_space
from pipeline.tune.task import TrialTask
from pipeline.tune.trial_store import Rung, TrialRecord
from tests.pipeline.conftest import Told
from tests.pipeline.support.runs import small_config

FINAL_ROW = FinalRow(
    configuration="winner",
    key="key2",
    values={},
    validation=[90.0, 91.0],
    test=[88.0, 89.0],
    classes=4,
    iterations=9,
)
"""Accuracies of the winner of ``example_search`` on the test set."""
ROOT = Path(__file__).resolve().parents[3]
Call = Callable[..., Told]

SMALL = ("tune.iterations=9", "tune.rungs=2", "tune.seeds=2", "tune.epochs=2", "resources.cpus_per_actor=1")
"""Trials of two rungs (3 and 9 iterations), one CPU each: well under a second."""


def rung(iteration: int, *accuracies: float) -> Rung:
    """A measurement."""
    return Rung(iteration=iteration, accuracies=accuracies, seconds=float(iteration))


def example_trial(number: int, values: Values, rungs: Sequence[Rung], outcome: str, why: str = "") -> TrialRecord:
    """A trial whose key is its number."""
    return TrialRecord(
        key=f"key{number}", values=values, began=float(number), rungs=tuple(rungs), outcome=outcome, why=why
    )


def example_search() -> tuple[SearchResult, Space]:
    """Seven trials of the default space: the given one, a better one that ties with another, two stopped, two failed."""
    space = default_space(small_config())
    start = space.start

    def at(multiplier: float, rate: float, **other: Any) -> Values:
        return {**start, "kernel.bandwidth_multiplier": multiplier, "condense.learning_rate": rate, **other}

    trials = (
        example_trial(1, start, [rung(3, 70, 71, 72), rung(9, 80, 81, 82)], "finished"),
        example_trial(2, at(0.5, 3.0), [rung(3, 75, 76, 77), rung(9, 90, 91, 92)], "finished"),
        example_trial(3, at(0.7, 2.0), [rung(3, 74, 75, 76), rung(9, 89.5, 90.5, 91.5)], "finished"),
        example_trial(4, at(9.0, 0.05, **{"kernel.name": "linear"}), [rung(3, 30, 31, 32)], "stopped"),
        example_trial(5, at(5.0, 0.5), [rung(3, 95, 96, 97)], "stopped"),
        example_trial(6, at(0.2, 9.9), [], "failed", "the loss is not finite"),
        example_trial(7, at(3.0, 7.0), [rung(3, 60, 61, 62)], "failed", "out of memory"),
    )
    return SearchResult(trials=trials, start_key="key1", searched=tuple(space.domains), rungs=(3, 9)), space


def example_task(out: Path, *settings: str, rungs: tuple[int, ...] = (3, 9)) -> TrialTask:
    """A task without data, for everything that does not run a trial."""
    return TrialTask(
        config=small_config(*SMALL, *settings),
        out=str(out / "trials"),
        class_shards="c",
        labels=(0, 1),
        rungs=rungs,
        threads=1,
    )


def keyed(result: SearchResult, task: TrialTask) -> SearchResult:
    """The search with the keys that a task gives to its trials."""
    trials = tuple(replace(trial, key=task.key(trial.values)) for trial in result.trials)
    return replace(result, trials=trials, start_key=trials[0].key)


def records(out: Path) -> dict[str, bytes]:
    """The records of all trials, by key."""
    return {path.parent.name: path.read_bytes() for path in sorted((out / "trials").glob("*/record.json"))}


def ended(out: Path) -> dict[str, bytes]:
    """The records of trials that are not running."""
    return {key: text for key, text in records(out).items() if json.loads(text)["outcome"] != "running"}


def start_of(config_file: str) -> Values:
    """The values of the given configuration."""
    return default_space(from_dict(json.loads(Path(config_file).read_text()), origin="small.json")).start


def environment_of_its_own() -> dict[str, str]:
    """The environment of a process that starts a Ray of its own."""
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(ROOT)}
    environment.pop("RAY_ADDRESS", None)
    return environment


def start_tune(*arguments: str, log: Path) -> "subprocess.Popen[bytes]":
    """Starts ``python -m pipeline tune`` as a process of its own."""
    with log.open("ab") as sink:
        return subprocess.Popen(
            [sys.executable, "-m", "pipeline", "tune", *arguments],
            env=environment_of_its_own(),
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
