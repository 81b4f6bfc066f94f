"""What a search found: its trials in order, which of them are ties, the winner's configuration, and the tables. No Ray."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from rich.table import Table

from pipeline import storage
from pipeline.config.parsing import to_dict
from pipeline.config.run_config import RunConfig
from pipeline.errors import FailedError
from pipeline.tune.space import RATE, Values, configured
from pipeline.tune.task import TrialTask
from pipeline.tune.trial_store import Rung, Trial, TrialFolder

TRIALS, BEST, TESTED = "trials.parquet", "best.json", "final.json"
SHOWN = 10
"""Trials that the table in the terminal shows."""


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """The trials of a search, numbered from 1: the given configuration's, then the others in the order in which they began."""

    trials: tuple[Trial, ...]
    given: str
    """Key of the trial of the given configuration."""
    searched: tuple[str, ...]
    """Keys of the settings that were searched."""
    rungs: tuple[int, ...]

    @property
    def finished(self) -> list[Trial]:
        """Trials that were measured at the last rung, the best first: only they are compared with each other."""
        whole = [trial for trial in self.trials if trial.outcome == "finished" and trial.last]
        return sorted(whole, key=lambda trial: -_last(trial).mean)

    @property
    def ordered(self) -> list[Trial]:
        """Finished trials, the best first, then the others by how far they came and how good they were."""
        rest = [trial for trial in self.trials if trial.outcome != "finished"]
        rest.sort(key=lambda trial: (-trial.last.iteration, -trial.last.mean) if trial.last else (0, 0))
        return [*self.finished, *rest]

    @property
    def winner(self) -> Trial:
        """The best of the finished trials; the given configuration where it is as good.

        Raises:
            FailedError: no trial was finished.
        """
        if not self.finished:
            why = next((trial.why for trial in self.trials if trial.outcome in ("failed", "lost")), "all were stopped")
            raise FailedError(f"tune: none of {len(self.trials)} trials was finished (the first: {why})")
        best = self.finished[0]
        same = [t for t in self.finished if t.key == self.given and _last(t).mean == _last(best).mean]
        return same[0] if same else best

    @property
    def default(self) -> Trial | None:
        """The trial of the given configuration, or None where it never began."""
        return next((trial for trial in self.trials if trial.key == self.given), None)

    @property
    def ties(self) -> set[str]:
        """Keys of finished trials whose difference from the winner is within the standard error of the seeds."""
        best = _last(self.winner)
        return {trial.key for trial in self.finished if trial is not self.winner and tied(_last(trial), best)}

    def number(self, trial: Trial) -> int:
        """From 1."""
        return 1 + [other.key for other in self.trials].index(trial.key)


def tied(one: Rung, other: Rung) -> bool:
    """Whether two means differ by no more than the standard error of their difference."""
    return abs(one.mean - other.mean) <= math.hypot(one.error, other.error)


def found(task: TrialTask, start: Values, searched: Sequence[str]) -> SearchResult:
    """Reads the records of all trials."""
    keys = storage.folders_below(task.out)
    held = [trial for key in keys if (trial := TrialFolder(task.out, key).read()) is not None]
    given = task.key(start)
    held.sort(key=lambda trial: (trial.key != given, trial.began, trial.key))  # two trials may begin at a time
    return SearchResult(trials=tuple(held), given=given, searched=tuple(searched), rungs=task.rungs)


def write_trials(path: str, held: SearchResult) -> None:
    """Writes a Parquet file with a row for each trial; the values of a setting stand in a column of its name."""
    ties = held.ties if held.finished else set()
    winner = held.winner.key if held.finished else None
    rows = [
        {
            "trial": number,
            "key": trial.key,
            "outcome": trial.outcome,
            "why": trial.why,
            "given": trial.key == held.given,
            "winner": trial.key == winner,
            "tied": trial.key in ties,
            **{key: trial.values[key] for key in held.searched},
            "accuracy": trial.last.mean if trial.last else None,
            "standard_error": trial.last.error if trial.last else None,
            "iterations": trial.last.iteration if trial.last else 0,
            "seconds": trial.last.seconds if trial.last else 0.0,
            "rung_iterations": [rung.iteration for rung in trial.rungs],
            "rung_accuracies": [list(rung.accuracies) for rung in trial.rungs],
        }
        for number, trial in enumerate(held.trials, start=1)
    ]
    for key in held.searched:
        if len({type(row[key]) for row in rows}) > 1:  # a column has one type
            numbers = all(isinstance(row[key], int | float) and not isinstance(row[key], bool) for row in rows)
            for row in rows:
                row[key] = float(row[key]) if numbers else json.dumps(row[key])
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    storage.write_bytes(path, sink.getvalue())


def best_config(config: RunConfig, trial: Trial) -> RunConfig:
    """The given configuration with a trial's values: all classes, the whole schedule, its own split."""
    return configured(config, trial.values)


def write_best(path: str, config: RunConfig, trial: Trial) -> None:
    """Writes what ``run --config`` takes, with the learning rate as a number."""
    values = to_dict(best_config(config, trial))
    section, _, key = RATE.partition(".")
    values[section][key] = config.condense.step_size if values[section][key] is None else values[section][key]
    storage.write_json(path, values)


def table(held: SearchResult) -> Table:
    """The best trials as a person reads them, and how many are left out."""
    ties = held.ties
    order = held.ordered
    shown = order[:SHOWN]
    if held.default is not None and held.default not in shown:
        shown.append(held.default)
    title = "trials: validation accuracy, %, mean ± standard error over the seeds"
    made = Table(title=title, title_justify="left")
    made.add_column("trial", justify="right")
    made.add_column("outcome")
    made.add_column("accuracy", no_wrap=True)
    made.add_column("iterations", justify="right")
    made.add_column("settings")
    for trial in shown:
        made.add_row(
            str(held.number(trial)),
            remark(held, trial, ties),
            accuracy_text(trial.last),
            str(trial.last.iteration) if trial.last else "0",
            values_text(trial.values),
        )
    if len(order) > len(shown):
        made.caption = f"{len(order) - len(shown)} more in {TRIALS}"
    return made


def remark(held: SearchResult, trial: Trial, ties: set[str]) -> str:
    """winner, tied, stopped, failed, given."""
    winner = bool(held.finished) and trial.key == held.winner.key
    words = ["winner"] if winner else (["tied"] if trial.key in ties else [])
    words += [trial.outcome] if trial.outcome != "finished" else []
    return ", ".join([*words, *(["given"] if trial.key == held.given else [])])


def tested_table(tested: Sequence[Mapping[str, Any]]) -> Table:
    """The winner beside the given configuration."""
    made = Table(title="accuracy, %, mean ± standard error over the same seeds", title_justify="left")
    for column in ("configuration", "validation", "test", "classes", "iterations", "seeds"):
        made.add_column(column)
    for row in tested:
        made.add_row(
            row["configuration"],
            accuracy_text(Rung(iteration=0, accuracies=tuple(row["validation"]), seconds=0))
            if row["validation"]
            else "",
            accuracy_text(Rung(iteration=0, accuracies=tuple(row["test"]), seconds=0)) if row["test"] else "",
            str(row["classes"]),
            str(row["iterations"]),
            str(len(row["test"] or row["validation"])),
        )
    return made


def accuracy_text(rung: Rung | None) -> str:
    """Such as ``94.3 ± 0.4``."""
    return f"{rung.mean:.1f} ± {rung.error:.1f}" if rung else ""


def values_text(values: Mapping[str, Any]) -> str:
    """The values of a trial in one line, without their sections."""
    return ", ".join(f"{key.split('.', 1)[-1]} {value_text(value)}" for key, value in values.items())


def value_text(value: Any) -> str:
    """A value of a setting, short."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _last(trial: Trial) -> Rung:
    assert trial.last is not None
    return trial.last
