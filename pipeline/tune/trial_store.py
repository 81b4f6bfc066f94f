"""What a search keeps of its trials: a folder each, under a name that follows from its values.

    OUT/trials/KEY/record.json      values, accuracies of every rung, what became of it
    OUT/trials/KEY/checkpoints/     the state of the condensation, as of a run's group

A trial that is begun once more, after a kill or by another search, finds what is there under the same name:
measured rungs are told again and not computed again.
"""

import json
import math
import statistics
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from typing_extensions import TypedDict

from m3d import CondenseState
from pipeline import storage
from pipeline.errors import UserError
from pipeline.formats.condense_checkpoint import read_checkpoint, snapshot, write_checkpoint
from pipeline.storage.documents import read_document, write_document

FILE = "record.json"


@dataclass(frozen=True, kw_only=True)
class Rung:
    """A trial measured after some iterations."""

    iteration: int
    accuracies: tuple[float, ...]
    """In percent, one per seed, the mean over the architectures."""
    seconds: float
    """That the trial took up to here."""

    @property
    def mean(self) -> float:
        """In percent."""
        return statistics.fmean(self.accuracies)

    @property
    def error(self) -> float:
        """Standard error of the mean over the seeds, in percentage points."""
        if len(self.accuracies) < 2:
            return 0.0
        return statistics.stdev(self.accuracies) / math.sqrt(len(self.accuracies))


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A trial as it stands."""

    key: str
    values: dict[str, Any]
    began: float
    """Seconds since 1970: trials are numbered in this order."""
    rungs: tuple[Rung, ...] = ()
    outcome: str = "running"
    """running, finished (all rungs), stopped (by the scheduler or the end of the search), failed (its values are to blame),
    or lost (what it ran on is: it is run again when the search goes on)."""
    why: str = ""
    """Of a failure or a loss."""
    facts: dict[str, Any] = field(default_factory=dict)
    """Where and how it was computed: device, precision."""

    @property
    def last(self) -> Rung | None:
        """The last measurement."""
        return self.rungs[-1] if self.rungs else None


class _RungEntry(TypedDict):
    iteration: int
    accuracies: list[float]
    seconds: float


class _TrialRecord(TypedDict):
    key: str
    values: dict[str, Any]
    began: float
    rungs: list[_RungEntry]
    outcome: str
    why: str
    facts: dict[str, Any]


class TrialFolder:
    """The folder of one trial below ``root``."""

    def __init__(self, root: str, key: str) -> None:
        self.path, self.key = storage.join(root, key), key
        self._checkpoint = storage.join(self.path, "checkpoints", "group-00000.safetensors")

    def begin(self, values: Mapping[str, Any]) -> Trial:
        """What is there, or a new record. A trial that was lost runs again."""
        held = self.read()
        if held is not None and held.outcome == "lost":
            return self.write(replace(held, outcome="running", why=""))
        return held if held is not None else self.write(Trial(key=self.key, values=dict(values), began=time.time()))

    def read(self) -> Trial | None:
        """The record, or None where there is none or it is damaged: the trial is then made again."""
        path = storage.join(self.path, FILE)
        try:
            held = read_document(_TrialRecord, path)
        except (FileNotFoundError, UserError):
            return None
        rungs = tuple(Rung(**{**entry, "accuracies": tuple(entry["accuracies"])}) for entry in held["rungs"])
        return Trial(
            key=held["key"],
            values=held["values"],
            began=held["began"],
            rungs=rungs,
            outcome=held["outcome"],
            why=held["why"],
            facts=held["facts"],
        )

    def write(self, trial: Trial) -> Trial:
        """Stores the record, and returns it."""
        write_document(storage.join(self.path, FILE), json.loads(json.dumps(asdict(trial))))
        return trial

    def settle(self, outcome: str, why: str = "") -> Trial | None:
        """Says what became of the trial, unless that is said already."""
        held = self.read()
        return self.write(replace(held, outcome=outcome, why=why)) if held and held.outcome == "running" else held

    def save(self, state: CondenseState) -> None:
        """Stores the state of the condensation."""
        write_checkpoint(self._checkpoint, snapshot(state), self.key)

    def load(self) -> CondenseState | None:
        """The stored state, on the CPU, or None."""
        return read_checkpoint(self._checkpoint, self.key)

    def forget_state(self) -> None:
        """Removes the stored state, whose trial goes on no more."""
        storage.remove(storage.join(self.path, "checkpoints", "group-00000.safetensors"))
