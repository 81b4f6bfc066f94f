"""Networks that are scored while their row is not whole yet: an interrupted evaluation loses those under way only.

    OUT/evaluation-partial.json    a score per network; removed with the last row

The file is small: what belongs to a row goes when the row is written.
"""

import json
from dataclasses import asdict
from typing import Any

from pipeline import storage
from pipeline.documents import parsed, sealed
from pipeline.errors import UserError
from pipeline.results import Scored

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
        document = sealed({"networks": self._held})
        storage.write_bytes(self.path, json.dumps(document).encode())


def key_of(about: dict[str, Any]) -> str:
    """A checksum of plain values."""
    return storage.sha256(json.dumps(about, sort_keys=True).encode())[:32]


def _read(path: str) -> dict[str, dict[str, Any]]:
    try:
        held = parsed(dict[str, Any], storage.read_json(path), path)["networks"]
    except (FileNotFoundError, UserError, KeyError):
        return {}  # a damaged one costs its work, never the evaluation
    return held
