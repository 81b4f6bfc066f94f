"""What a search keeps of its trials: a folder each, under a name that follows from its values.

    OUT/trials/KEY/record.json      values, accuracies of every rung, outcome
    OUT/trials/KEY/checkpoints/     the checkpoint of the condensation, stored like that of a run's group

A trial that starts again, after a kill or in another search, finds its record under the same name. It reports the
rungs that are recorded and computes only those that are missing.
"""

import json
import math
import statistics
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Annotated

from pydantic import Field, FiniteFloat, PositiveInt
from typing_extensions import TypedDict

from m3d import CondenseState
from pipeline import storage
from pipeline.errors import UserError
from pipeline.formats.condense_checkpoint import read_checkpoint, snapshot, write_checkpoint
from pipeline.storage.documents import Document, read_document, write_document
from pipeline.storage.fields import FileName
from pipeline.tune.space import Values

FAILED = ("failed", "lost")
"""Outcomes of trials without a result."""
ENDED = ("finished", "stopped", "failed")
"""Outcomes of trials that do not run again."""


class TrialFacts(Document, total=False):
    """How a trial was computed."""

    device: str
    precision: str


@dataclass(frozen=True, kw_only=True)
class Rung:
    """Accuracies of a trial after some iterations."""

    iteration: int
    accuracies: tuple[float, ...]
    """Accuracies in percent, one per seed, each the mean over the architectures."""
    seconds: float
    """Seconds that the trial ran up to this rung."""

    @property
    def mean(self) -> float:
        """Mean over the seeds, in percent."""
        return statistics.fmean(self.accuracies)

    @property
    def error(self) -> float:
        """Standard error of the mean over the seeds, in percentage points."""
        if len(self.accuracies) < 2:
            return 0.0
        return statistics.stdev(self.accuracies) / math.sqrt(len(self.accuracies))


@dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """A trial's values, and its results so far."""

    key: str
    values: Values
    began: float
    """Start of the trial in seconds since 1970. Trials are numbered in this order."""
    rungs: tuple[Rung, ...] = ()
    outcome: str = "running"
    """running, finished (all rungs), stopped (by the scheduler or the end of the search), failed (because of its values),
    or lost (its process died too often; a resumed search runs it again)."""
    why: str = ""
    """Reason of a failure or a loss."""
    facts: TrialFacts = field(default_factory=TrialFacts)

    @property
    def last(self) -> Rung | None:
        """The last measurement."""
        return self.rungs[-1] if self.rungs else None

    @property
    def has_ended(self) -> bool:
        """Whether the trial is over: a resumed search skips it."""
        return self.outcome in ENDED


_Accuracy = Annotated[float, Field(ge=0, le=100)]


class _RungEntry(TypedDict):
    iteration: PositiveInt
    accuracies: Annotated[list[_Accuracy], Field(min_length=1)]
    seconds: FiniteFloat


class _RecordDocument(TypedDict):
    key: FileName
    values: Values
    began: FiniteFloat
    rungs: list[_RungEntry]
    outcome: str
    why: str
    facts: TrialFacts


class TrialFolder:
    """The folder of one trial below ``root``."""

    def __init__(self, root: str, key: str) -> None:
        self.path, self.key = storage.join(root, key), key
        self._record = storage.join(self.path, "record.json")
        self._checkpoint = storage.join(self.path, "checkpoints", "group-00000.safetensors")

    def begin(self, values: Mapping[str, object]) -> TrialRecord:
        """Returns the stored record, or a new one. The outcome of a lost trial becomes ``running`` again."""
        record = self.read()
        if record is None:
            return self.write(TrialRecord(key=self.key, values=dict(values), began=time.time()))
        if record.outcome == "lost":
            return self.write(replace(record, outcome="running", why=""))
        return record

    def read(self) -> TrialRecord | None:
        """Returns the record, or None if there is none or it is damaged: the trial then starts again."""
        try:
            document = read_document(_RecordDocument, self._record)
        except (FileNotFoundError, UserError):
            return None
        if document["key"] != self.key:
            return None
        rungs = tuple(
            Rung(iteration=entry["iteration"], accuracies=tuple(entry["accuracies"]), seconds=entry["seconds"])
            for entry in document["rungs"]
        )
        return TrialRecord(
            key=document["key"],
            values=document["values"],
            began=document["began"],
            rungs=rungs,
            outcome=document["outcome"],
            why=document["why"],
            facts=document["facts"],
        )

    def write(self, record: TrialRecord) -> TrialRecord:
        """Stores the record, and returns it."""
        write_document(self._record, json.loads(json.dumps(asdict(record))))
        return record

    def settle(self, outcome: str, why: str = "") -> TrialRecord | None:
        """Records the outcome of a running trial. Returns the record, or None if there is none."""
        record = self.read()
        if record is None or record.outcome != "running":
            return record
        return self.write(replace(record, outcome=outcome, why=why))

    def save(self, state: CondenseState) -> None:
        """Stores a checkpoint of the condensation."""
        write_checkpoint(self._checkpoint, snapshot(state), self.key)

    def load(self) -> CondenseState | None:
        """Returns the checkpoint, on the CPU, or None."""
        return read_checkpoint(self._checkpoint, self.key)

    def delete_checkpoint(self) -> None:
        """Deletes the checkpoint of a trial that will not be resumed."""
        storage.remove(self._checkpoint)
