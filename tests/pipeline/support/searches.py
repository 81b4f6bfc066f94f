"""Made-up searches and small real ones, for the tests of ``tune``."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.tune.results import SearchResult
from pipeline.tune.space import Space, default_space
from pipeline.tune.trial_store import Rung, Trial
from tests.pipeline.support.runs import small_config

SMALL = ("tune.iterations=9", "tune.rungs=2", "tune.seeds=2", "tune.epochs=2", "resources.cpus_per_actor=1")
"""Trials of two rungs (3 and 9 iterations), one CPU each: well under a second."""


def rung(iteration: int, *accuracies: float) -> Rung:
    """A measurement."""
    return Rung(iteration=iteration, accuracies=accuracies, seconds=float(iteration))


def made_trial(number: int, values: dict[str, Any], rungs: Sequence[Rung], outcome: str, why: str = "") -> Trial:
    """A trial whose key is its number."""
    return Trial(key=f"key{number}", values=values, began=float(number), rungs=tuple(rungs), outcome=outcome, why=why)


def made_search() -> tuple[SearchResult, Space]:
    """Seven trials of the default space: the given one, a better one that ties with another, two stopped, two failed."""
    space = default_space(small_config())
    start = space.start

    def at(multiplier: float, rate: float, **other: Any) -> dict[str, Any]:
        return {**start, "kernel.bandwidth_multiplier": multiplier, "condense.learning_rate": rate, **other}

    trials = (
        made_trial(1, start, [rung(3, 70, 71, 72), rung(9, 80, 81, 82)], "finished"),
        made_trial(2, at(0.5, 3.0), [rung(3, 75, 76, 77), rung(9, 90, 91, 92)], "finished"),
        made_trial(3, at(0.7, 2.0), [rung(3, 74, 75, 76), rung(9, 89.5, 90.5, 91.5)], "finished"),
        made_trial(4, at(9.0, 0.05, **{"kernel.name": "linear"}), [rung(3, 30, 31, 32)], "stopped"),
        made_trial(5, at(5.0, 0.5), [rung(3, 95, 96, 97)], "stopped"),
        made_trial(6, at(0.2, 9.9), [], "failed", "the loss is not finite"),
        made_trial(7, at(3.0, 7.0), [rung(3, 60, 61, 62)], "failed", "out of memory"),
    )
    return SearchResult(trials=trials, given="key1", searched=tuple(space.domains), rungs=(3, 9)), space


def records(out: Path) -> dict[str, bytes]:
    """The records of all trials, by key."""
    return {path.parent.name: path.read_bytes() for path in sorted((out / "trials").glob("*/record.json"))}
