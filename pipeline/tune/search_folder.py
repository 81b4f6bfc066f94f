"""The folder of a search: where each of its files is, and what its record says.

OUT/search.json      what is searched: configuration, space, classes, rungs
OUT/class-shards/    the prepared images, unless data.cache names another place
OUT/trials/          a folder for each trial
OUT/search/          Ray Tune's own files; TensorBoard reads them
OUT/clock.json       seconds that the search has run and proposals that it has made, all calls together
OUT/trials.parquet   a row for each trial
OUT/best.json        the winner's full configuration, for ``run --config``
OUT/whole/           trials that tune.final=whole condenses again with all classes
OUT/final.json       the winner and the given configuration on the test set
OUT/tune.html        the page of plots
OUT/lease.json       the driver that may write to the folder
"""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NotRequired

from typing_extensions import TypedDict

from pipeline import storage
from pipeline.config.parsing import differing_keys, from_dict, to_dict
from pipeline.config.run_config import RunConfig
from pipeline.errors import FailedError, UserError, listed
from pipeline.formats.run_record import MAY_CHANGE_ON_RESUME
from pipeline.storage.documents import Document, checked, read_document, write_document
from pipeline.tune.space import Values

FREE_KEYS = (*(key for key in MAY_CHANGE_ON_RESUME if key != "tune"), "tune.final")
"""Prefixes of the settings that a resumed search may change."""


class SearchRecord(Document):
    """OUT/search.json."""

    out: str
    config: dict[str, Any]
    space: dict[str, Any]
    trials: int
    time_budget_s: float | None
    start: NotRequired[Values]
    labels: NotRequired[list[int]]
    rungs: NotRequired[list[int]]
    class_shards: NotRequired[str]
    versions: NotRequired[dict[str, str]]
    commit: NotRequired[str | None]


class FinalRow(TypedDict):
    """A configuration on the test set."""

    configuration: str
    """winner or given."""
    key: str
    values: Values
    validation: list[float]
    """Accuracies in percent, one per seed; empty if the trial has none."""
    test: list[float]
    classes: int
    iterations: int


class FinalDocument(TypedDict):
    """OUT/final.json."""

    final: str
    """The setting ``tune.final`` that the rows were made with."""
    keys: list[str]
    """Keys of the trials, in the order of the rows."""
    rows: list[FinalRow]


@dataclass(frozen=True)
class SearchFolder:
    """Paths of one search."""

    path: str
    """Absolute path, or a URL."""

    @classmethod
    def at(cls, path: str) -> "SearchFolder":
        """The folder that a user names, local or by URL."""
        return cls(storage.absolute(path))

    def __str__(self) -> str:
        return self.path

    def file(self, *names: str) -> str:
        """The path of something in the folder."""
        return storage.join(self.path, *names)

    @property
    def name(self) -> str:
        """The folder's own name, without the folders above it."""
        return self.path.rstrip("/").rsplit("/", 1)[-1]

    @property
    def search_json(self) -> str:
        """The record of the search."""
        return self.file("search.json")

    @property
    def trials(self) -> str:
        """Folder of the trials' folders."""
        return self.file("trials")

    @property
    def full_runs(self) -> str:
        """Folder of the trials that ``tune.final=whole`` condenses again with all classes."""
        return self.file("whole")

    @property
    def clock(self) -> str:
        """Seconds that the search has run."""
        return self.file("clock.json")

    @property
    def trials_table(self) -> str:
        """The table of all trials, in Parquet."""
        return self.file("trials.parquet")

    @property
    def best(self) -> str:
        """The winner's configuration."""
        return self.file("best.json")

    @property
    def final(self) -> str:
        """Accuracies on the test set."""
        return self.file("final.json")

    @property
    def page(self) -> str:
        """The page of plots."""
        return self.file("tune.html")

    def holds_run(self) -> bool:
        """Whether the folder is that of a run."""
        return storage.exists(self.file("config.json"))

    def holds_search(self) -> bool:
        """Whether the folder has a search.json."""
        return storage.exists(self.search_json)

    def read_record(self) -> SearchRecord | None:
        """The content of search.json, or None if there is none. Raises UserError if it is damaged."""
        try:
            return read_document(SearchRecord, self.search_json)
        except FileNotFoundError:
            return None

    def write_record(self, record: SearchRecord) -> None:
        """Writes search.json."""
        write_document(self.search_json, record)

    def require_same_search(self, before: SearchRecord, wanted: SearchRecord, config: RunConfig) -> None:
        """Raises UserError if the folder's search has other settings, and names them.

        Args:
            before: record of the folder.
            wanted: record of the search that is asked for; its space, trials and time are compared.
            config: configuration that is asked for.
        """
        # A setting that is newer than the record has its default there.
        settings = to_dict(from_dict(before["config"], origin=self.search_json))
        differing = [key for key in differing_keys(settings, to_dict(config)) if not key.startswith(FREE_KEYS)]
        differing += [f"the space's {key}" for key in differing_keys(before["space"], wanted["space"])]
        differing += ["--trials"] if before["trials"] != wanted["trials"] else []
        differing += ["--time-budget"] if before["time_budget_s"] != wanted["time_budget_s"] else []
        if differing:
            raise UserError(
                f"{self}: holds a search that differs in {listed(differing)}; choose another --out, or give the same "
                "settings to resume it"
            )

    def seconds(self) -> float:
        """Seconds that the search has run, all calls together, as far as the clock was written."""
        return self._counts()["seconds"]

    def proposals(self, records: int) -> int:
        """Proposals of all calls, of which so many trials have records: a proposal that was repeated has no record of its own.

        The number is known if the last call ran to its end. Otherwise every record counts as one proposal.
        """
        counts = self._counts()
        return max(records, int(counts["proposals"])) if counts["records"] == records else records

    def write_seconds(self, seconds: float) -> None:
        """Writes the clock. A failure is ignored: the clock must not end the search."""
        self._write_counts({**self._counts(), "seconds": round(seconds, 1)})

    def write_proposals(self, proposals: int, records: int) -> None:
        """Writes the number of proposals, and of records that they have, beside the clock. A failure is ignored."""
        self._write_counts({**self._counts(), "proposals": proposals, "records": records})

    def _counts(self) -> dict[str, float]:
        """What clock.json counts; 0 for what it lacks or if it is damaged."""
        counts = {"seconds": 0.0, "proposals": 0, "records": 0}
        try:
            stored = storage.read_json(self.clock)
            return {name: float(stored.get(name, 0)) for name in counts}
        except (FileNotFoundError, UserError, AttributeError, TypeError, ValueError):
            return counts

    def _write_counts(self, counts: dict[str, float]) -> None:
        with contextlib.suppress(UserError, FailedError):
            storage.write_json(self.clock, counts)

    def read_final(self, final: str, keys: Sequence[str]) -> list[FinalRow] | None:
        """The rows of final.json, or None if they are of other trials or were made with another ``tune.final``."""
        document = storage.read_json(self.final) if storage.exists(self.final) else {}
        if document.get("final") != final or document.get("keys") != list(keys):
            return None
        return checked(FinalDocument, document, self.final)["rows"]

    def write_final(self, final: str, rows: Sequence[FinalRow]) -> None:
        """Writes final.json."""
        document = FinalDocument(final=final, keys=[row["key"] for row in rows], rows=list(rows))
        storage.write_json(self.final, document)
