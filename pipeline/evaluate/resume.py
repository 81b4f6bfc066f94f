"""Networks that are scored while their row is not whole yet: an interrupted evaluation loses those under way only.

    OUT/evaluation-partial.json    a score per network; removed with the last row

The file is small: what belongs to a row goes when the row is written.
"""

import json
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from torch import Tensor

from pipeline import storage
from pipeline.errors import UserError
from pipeline.evaluate.results import Scored
from pipeline.storage.documents import read_document, write_compact_document
from pipeline.storage.tensors import read_tensors, write_tensors

FILE = "evaluation-partial.json"


class Partial:
    """The file of one folder. Keys are checksums of all that a row's figures follow from but the seed."""

    def __init__(self, out: str) -> None:
        self.path = storage.join(out, FILE)
        self._held = _read(self.path)

    def scored(self, key: str) -> dict[int, Scored]:
        """Scores by seed."""
        return {int(seed): Scored(**values) for seed, values in self._held.get(key, {}).items()}

    def add(self, key: str, scored: dict[int, Scored]) -> None:
        """Keeps scores."""
        self._held.setdefault(key, {}).update({str(seed): asdict(one) for seed, one in scored.items()})
        self._write()

    def drop(self, key: str) -> None:
        """Forgets a row that is written; the file goes with the last one."""
        if self._held.pop(key, None) is None:
            return
        if self._held:
            self._write()
        else:
            storage.remove(self.path)

    def _write(self) -> None:
        write_compact_document(self.path, {"networks": self._held})


def key_of(about: dict[str, Any]) -> str:
    """A checksum of plain values."""
    return storage.sha256(json.dumps(about, sort_keys=True).encode())[:32]


def _read(path: str) -> dict[str, dict[str, Any]]:
    try:
        held = read_document(dict[str, Any], path)["networks"]
    except (FileNotFoundError, UserError, KeyError):
        return {}  # a damaged one costs its work, never the evaluation
    return held


FOLDER = "networks"
EVERY_S = 60.0
"""Seconds between two writes; networks that are trained in less are not kept."""


class UnderWay:
    """The networks of one row, an ``m3d.training.scoring.Keeper``."""

    def __init__(self, out: str, key: str, every_s: float = EVERY_S) -> None:
        """Args: a folder, the checksum of all that the row follows from, and the seconds between two writes."""
        self.out, self.key, self.every_s = out, key, every_s
        self._written = time.monotonic()

    def load(self, seed: int) -> tuple[int, dict[str, Tensor]] | None:
        """Epochs that are done and the tensors after them; None where there are none or the file is damaged."""
        self._written = time.monotonic()
        file = read_tensors(self._path(seed), checked="epoch")
        try:
            return None if file is None else (int(file.metadata["epoch"]), file.tensors)
        except ValueError:
            return None  # a damaged one costs its training, never the evaluation

    def keep(self, seed: int, epoch: int, tensors: Callable[[], dict[str, Tensor]]) -> None:
        """Stores a network, at most every ``every_s`` seconds."""
        if time.monotonic() - self._written < self.every_s:
            return
        write_tensors(self._path(seed), tensors(), {"epoch": str(epoch)}, checked="epoch")
        self._written = time.monotonic()

    def finished(self, seed: int) -> None:
        """Removes the file."""
        storage.remove(self._path(seed))

    def _path(self, seed: int) -> str:
        return storage.join(self.out, FOLDER, f"{self.key}-{seed}.safetensors")
