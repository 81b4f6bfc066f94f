"""What an interrupted evaluation resumes from. No Ray here.

    OUT/evaluation-partial.json            scores of networks whose row is incomplete; removed with the last row
    OUT/networks/KEY-SEED.arrow            confusion matrix of such a network, if it is too large for the document
    OUT/networks/KEY-SEED.safetensors      checkpoint of a network that is being trained

A damaged file is ignored and its work is repeated.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import NotRequired, cast

from torch import Tensor

from pipeline import storage
from pipeline.errors import UserError
from pipeline.evaluate.results import NetworkScore
from pipeline.formats.confusion_matrix import (
    MatrixFile,
    StoredMatrix,
    is_listed,
    read_matrix,
    stored_matrix,
    sweep_matrices,
)
from pipeline.formats.run_folder import RunFolder
from pipeline.storage.documents import Document, read_document, write_compact_document
from pipeline.storage.tensors import read_tensors, write_tensors

EVERY_S = 60.0
"""Seconds between two checkpoints of a network; a network that is trained faster has none."""
_FIELDS = {field.name for field in fields(NetworkScore)}


class StoredScore(Document):
    """A ``NetworkScore`` in the document."""

    accuracy: float
    confusion: NotRequired[list[list[int]]]
    confusion_file: NotRequired[MatrixFile]
    best: float | None
    precision: str
    compiled: bool
    device: NotRequired[str]
    commit: NotRequired[str]
    curve: NotRequired[list[float]]


class PartialDocument(Document):
    """evaluation-partial.json: scores by the key of the row and by seed."""

    networks: dict[str, dict[int, StoredScore]]


class PartialEvaluation:
    """Scores of networks whose row is incomplete, in memory and in evaluation-partial.json.

    A key is ``RowRequest.score_key``: a checksum of everything that determines the scores, except the seed.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self._scores: dict[str, dict[int, NetworkScore]] = {}
        self._documents: dict[tuple[str, int], StoredScore] = {}
        """Scores as the file has them. A large matrix is stored with the first of them, and never again."""
        for key, scores in _read(folder.partial_evaluation).items():
            for seed, document in scores.items():
                self._load(key, seed, document)

    def scores(self, key: str) -> dict[int, NetworkScore]:
        """Scores of a row by seed."""
        return dict(self._scores.get(key, {}))

    def add(self, key: str, scores: Mapping[int, NetworkScore]) -> None:
        """Stores scores of a row; writes the file if one of them is new."""
        stored = self._scores.setdefault(key, {})
        if not scores.keys() <= stored.keys():
            stored.update(scores)
            self._write()

    def remove(self, key: str) -> None:
        """Removes the scores of a row, and the file with its last row."""
        if self._scores.pop(key, None) is None:
            return
        self._documents = {place: document for place, document in self._documents.items() if place[0] != key}
        if self._scores:
            self._write()
        else:
            storage.remove(self.folder.partial_evaluation)
        documents = self._documents.values()
        sweep_matrices(
            self.folder.networks, (document["confusion_file"] for document in documents if "confusion_file" in document)
        )

    def _load(self, key: str, seed: int, document: StoredScore) -> None:
        """Adds a score of the file, unless its matrix is missing or damaged."""
        about = {name: value for name, value in document.items() if name in _FIELDS}
        try:
            matrix = read_matrix(cast(StoredMatrix, document), self.folder.networks, self.folder.partial_evaluation)
        except UserError:
            return
        if matrix is None:
            return
        self._scores.setdefault(key, {})[seed] = NetworkScore(
            **{**about, "curve": tuple(document.get("curve", ())), "confusion": matrix}
        )
        if is_listed(matrix.classes) or "confusion_file" in document:  # others are of an older version
            self._documents[key, seed] = document

    def _write(self) -> None:
        networks: dict[str, dict[str, StoredScore]] = {}
        for key, scores in self._scores.items():
            networks[key] = {}
            for seed, score in scores.items():
                if (key, seed) not in self._documents:
                    self._documents[key, seed] = self._document(key, seed, score)
                networks[key][str(seed)] = self._documents[key, seed]
        write_compact_document(self.folder.partial_evaluation, {"networks": networks})

    def _document(self, key: str, seed: int, score: NetworkScore) -> StoredScore:
        """The score in the form of the file. Writes a large matrix."""
        document: dict[str, object] = {}
        for field in fields(score):
            if field.name == "confusion":
                document |= stored_matrix(score.confusion, self.folder.networks, f"{key}-{seed}")
            elif field.name != "curve":
                document[field.name] = getattr(score, field.name)
            elif score.curve:
                document["curve"] = list(score.curve)
        return cast(StoredScore, document)


class NetworkCheckpoints:
    """Checkpoints of the networks of one row while they are trained; an ``m3d.training.scoring.Keeper``."""

    def __init__(self, folder: RunFolder, key: str, every_s: float = EVERY_S) -> None:
        """Opens the checkpoints of a row.

        Args:
            folder: the folder of the evaluation.
            key: checksum of everything that determines the networks, except the seed.
            every_s: seconds between two checkpoints.
        """
        self.folder, self.key, self.every_s = folder, key, every_s
        self._written = time.monotonic()

    def load(self, seed: int) -> tuple[int, dict[str, Tensor]] | None:
        """Finished epochs and the tensors after them; None if there is no checkpoint, or a damaged one."""
        self._written = time.monotonic()
        file = read_tensors(self._path(seed), checked="epoch")
        try:
            return None if file is None else (int(file.metadata["epoch"]), file.tensors)
        except ValueError:
            return None

    def keep(self, seed: int, epoch: int, tensors: Callable[[], dict[str, Tensor]]) -> None:
        """Writes a checkpoint if the last one is older than ``every_s`` seconds."""
        if time.monotonic() - self._written < self.every_s:
            return
        write_tensors(self._path(seed), tensors(), {"epoch": str(epoch)}, checked="epoch")
        self._written = time.monotonic()

    def finished(self, seed: int) -> None:
        """Removes the checkpoint of a network."""
        storage.remove(self._path(seed))

    def _path(self, seed: int) -> str:
        return storage.join(self.folder.networks, f"{self.key}-{seed}.safetensors")


def _read(path: str) -> dict[str, dict[int, StoredScore]]:
    try:
        return read_document(PartialDocument, path)["networks"]
    except (FileNotFoundError, UserError):
        return {}
