"""The result of a search: its trials in order, ties, the winner's configuration, and the tables. No Ray here."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from rich.table import Table

from pipeline import storage
from pipeline.config.parsing import to_dict
from pipeline.config.run_config import RunConfig
from pipeline.errors import FailedError
from pipeline.tune.search_folder import FinalRow
from pipeline.tune.space import RATE, Space, Values, configured
from pipeline.tune.task import TrialTask
from pipeline.tune.trial_store import FAILED, Rung, TrialFolder, TrialRecord

SHOWN = 10
"""Number of trials that the table in the terminal shows."""


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """The trials of a search, numbered from 1: first that of the given configuration, then the others by their start."""

    trials: tuple[TrialRecord, ...]
    start_key: str
    """Key of the trial of the given configuration."""
    searched: tuple[str, ...]
    """Keys of the settings that were searched."""
    rungs: tuple[int, ...]
    """Iterations at which trials are measured, rising."""

    @property
    def finished(self) -> list[TrialRecord]:
        """Trials that were measured at the last rung, the best first. Only these are compared with each other."""
        complete = [trial for trial in self.trials if trial.outcome == "finished" and trial.last]
        return sorted(complete, key=lambda trial: -_last(trial).mean)

    @property
    def ordered(self) -> list[TrialRecord]:
        """Finished trials, the best first, then the others by their last rung and its accuracy."""
        rest = [trial for trial in self.trials if trial.outcome != "finished"]
        rest.sort(key=lambda trial: (-trial.last.iteration, -trial.last.mean) if trial.last else (0, 0))
        return [*self.finished, *rest]

    @property
    def winner(self) -> TrialRecord:
        """The best finished trial; that of the given configuration if it is as good.

        Raises:
            FailedError: no trial finished.
        """
        if not self.finished:
            why = next((trial.why for trial in self.trials if trial.outcome in FAILED), "all were stopped")
            raise FailedError(f"tune: none of {len(self.trials)} trials finished (the first: {why})")
        best = self.finished[0]
        same = [t for t in self.finished if t.key == self.start_key and _last(t).mean == _last(best).mean]
        return same[0] if same else best

    @property
    def start(self) -> TrialRecord | None:
        """The trial of the given configuration, or None if it never began."""
        return next((trial for trial in self.trials if trial.key == self.start_key), None)

    @property
    def ties(self) -> set[str]:
        """Keys of finished trials that are tied with the winner."""
        best = _last(self.winner)
        return {trial.key for trial in self.finished if trial is not self.winner and tied(_last(trial), best)}

    def number(self, trial: TrialRecord) -> int:
        """Returns the number of a trial, from 1."""
        return 1 + [other.key for other in self.trials].index(trial.key)


def tied(first: Rung, second: Rung) -> bool:
    """Returns whether two means differ by no more than the standard error of their difference."""
    return abs(first.mean - second.mean) <= math.hypot(first.error, second.error)


def read_result(task: TrialTask, space: Space) -> SearchResult:
    """Reads the records of all trials. Those of another source or of other settings, whose keys differ, do not count."""
    keys = storage.folders_below(task.out)
    stored = [record for key in keys if (record := TrialFolder(task.out, key).read()) is not None]
    records = [record for record in stored if record.key == task.key(record.values)]
    start = task.key(space.start)
    records.sort(key=lambda record: (record.key != start, record.began, record.key))  # two may begin at the same time
    return SearchResult(trials=tuple(records), start_key=start, searched=tuple(space.domains), rungs=task.rungs)


def write_trials(path: str, result: SearchResult) -> None:
    """Writes a Parquet file with a row for each trial and a column for each searched setting."""
    ties = result.ties if result.finished else set()
    winner = result.winner.key if result.finished else None
    rows = [
        {
            "trial": number,
            "key": trial.key,
            "outcome": trial.outcome,
            "why": trial.why,
            "given": trial.key == result.start_key,
            "winner": trial.key == winner,
            "tied": trial.key in ties,
            **{key: trial.values[key] for key in result.searched},
            "accuracy": trial.last.mean if trial.last else None,
            "standard_error": trial.last.error if trial.last else None,
            "iterations": trial.last.iteration if trial.last else 0,
            "seconds": trial.last.seconds if trial.last else 0.0,
            "rung_iterations": [rung.iteration for rung in trial.rungs],
            "rung_accuracies": [list(rung.accuracies) for rung in trial.rungs],
        }
        for number, trial in enumerate(result.trials, start=1)
    ]
    for key in result.searched:
        if len({type(row[key]) for row in rows}) > 1:  # a column needs one type
            numbers = all(isinstance(row[key], int | float) and not isinstance(row[key], bool) for row in rows)
            for row in rows:
                row[key] = float(row[key]) if numbers else json.dumps(row[key])
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    storage.write_bytes(path, sink.getvalue())


def best_config(config: RunConfig, trial: TrialRecord) -> RunConfig:
    """Returns the given configuration with a trial's values: all classes, the full schedule, its own split."""
    return configured(config, trial.values)


def write_best(path: str, config: RunConfig, trial: TrialRecord) -> None:
    """Writes the configuration for ``run --config``, with the learning rate as a number."""
    values = to_dict(best_config(config, trial))
    section, _, key = RATE.partition(".")
    values[section][key] = config.condense.step_size if values[section][key] is None else values[section][key]
    storage.write_json(path, values)


def trials_table(result: SearchResult) -> Table:
    """Returns the best trials for the terminal, and how many are left out."""
    ties = result.ties
    order = result.ordered
    shown = order[:SHOWN]
    if result.start is not None and result.start not in shown:
        shown.append(result.start)
    title = "trials: validation accuracy, %, mean ± standard error over the seeds"
    table = Table(title=title, title_justify="left")
    table.add_column("trial", justify="right")
    table.add_column("outcome")
    table.add_column("accuracy", no_wrap=True)
    table.add_column("iterations", justify="right")
    table.add_column("settings")
    for trial in shown:
        table.add_row(
            str(result.number(trial)),
            remark(result, trial, ties),
            accuracy_text(trial.last),
            str(trial.last.iteration) if trial.last else "0",
            values_text(trial.values),
        )
    if len(order) > len(shown):
        table.caption = f"{len(order) - len(shown)} more in trials.parquet"
    return table


def remark(result: SearchResult, trial: TrialRecord, ties: set[str]) -> str:
    """Returns what the tables say of a trial: winner, tied, stopped, failed, given."""
    winner = bool(result.finished) and trial.key == result.winner.key
    words = ["winner"] if winner else (["tied"] if trial.key in ties else [])
    words += [trial.outcome] if trial.outcome != "finished" else []
    return ", ".join([*words, *(["given"] if trial.key == result.start_key else [])])


def final_table(rows: Sequence[FinalRow]) -> Table:
    """Returns the winner and the given configuration on the test set, for the terminal."""
    table = Table(title="accuracy, %, mean ± standard error over the same seeds", title_justify="left")
    for column in ("configuration", "validation", "test", "classes", "iterations", "seeds"):
        table.add_column(column)
    for row in rows:
        table.add_row(
            row["configuration"],
            seeds_text(row["validation"]),
            seeds_text(row["test"]),
            str(row["classes"]),
            str(row["iterations"]),
            str(len(row["test"] or row["validation"])),
        )
    return table


def seeds_text(accuracies: Sequence[float]) -> str:
    """Returns the accuracies of some seeds as text, empty if there are none."""
    return accuracy_text(Rung(iteration=0, accuracies=tuple(accuracies), seconds=0.0) if accuracies else None)


def accuracy_text(rung: Rung | None) -> str:
    """Returns a text such as ``94.3 ± 0.4``, without an error for one network, empty without a rung."""
    if rung is None:
        return ""
    return f"{rung.mean:.1f} ± {rung.error:.1f}" if len(rung.accuracies) > 1 else f"{rung.mean:.1f}"


def values_text(values: Values) -> str:
    """Returns the values of a trial in one line, without their sections."""
    return ", ".join(f"{key.split('.', 1)[-1]} {value_text(value)}" for key, value in values.items())


def value_text(value: Any) -> str:
    """Returns the short text of a setting's value."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _last(trial: TrialRecord) -> Rung:
    assert trial.last is not None
    return trial.last
