"""evaluation.json: rows from the scores of networks, reading and writing them. No Ray here."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NotRequired, cast

from pydantic import Field

from pipeline import storage
from pipeline.config.run_config import RunConfig
from pipeline.evaluate.dd_ranking import scores
from pipeline.evaluate.intervals import estimate
from pipeline.evaluate.rows import (
    EvaluationRow,
    Origins,
    RowKey,
    RowRequest,
    Summary,
    requested_rows,
    training_settings,
    with_defaults,
)
from pipeline.formats.confusion_matrix import (
    Confusion,
    MatrixFile,
    StoredMatrix,
    is_listed,
    read_matrix,
    stored_matrix,
    sweep_matrices,
)
from pipeline.formats.run_folder import RunFolder
from pipeline.storage.documents import Document, checked, parsed, sealed


@dataclass(frozen=True, kw_only=True)
class NetworkScore:
    """The result of one network."""

    accuracy: float
    """Accuracy in percent after the last epoch."""
    confusion: Confusion
    """Test images by their class and by the class that the network predicts."""
    best: float | None
    """Best test accuracy among the measured epochs, or None if only the last one was measured."""
    precision: str
    compiled: bool
    device: str = ""
    """Device that trained the network, in words."""
    commit: str = ""
    """Commit of the program that trained the network, if it is known."""
    curve: tuple[float, ...] = ()
    """Accuracy in percent at every measured epoch, if more than the last one was measured."""


Number = Annotated[float, Field(strict=True)]
"""A number that is written as one: rows are used as they are written."""
Whole = Annotated[int, Field(strict=True)]


class StoredSummary(Document):
    """Accuracies of several networks in a row, as far as programs read them."""

    mean: Number
    every: NotRequired[Whole]
    curves: NotRequired[list[list[Number]]]


class StoredRow(Document):
    """A row of evaluation.json as far as programs read it; rows of older versions lack keys."""

    set: str
    mean: Number
    architecture: NotRequired[str]
    protocol: NotRequired[str]
    on: NotRequired[str]
    augmentation: NotRequired[str]
    labels: NotRequired[str]
    std: NotRequired[Number]
    interval95: NotRequired[tuple[Number, Number] | None]
    accuracies: NotRequired[list[Number]]
    seeds: NotRequired[list[Whole]]
    epochs: NotRequired[Whole]
    best_epoch_compatibility: NotRequired[StoredSummary]
    per_class: NotRequired[list[Number]]
    confusion: NotRequired[list[list[int]]]
    confusion_file: NotRequired[MatrixFile]


class EvaluationDocument(Document):
    """evaluation.json."""

    results: list[StoredRow]


def row_of(
    request: RowRequest,
    scores: Mapping[int, NetworkScore],
    *,
    images_per_class: float,
    images: int | None = None,
    matrices: str | None = None,
) -> EvaluationRow:
    """The row that answers a request.

    Args:
        request: what was asked for.
        scores: results by seed, at least one.
        images_per_class: stored images of every class.
        images: number of images that a network was trained on.
        matrices: folder for a confusion matrix that is too large for the row. None leaves such a matrix out.
    """
    seeds, networks, key = sorted(scores), list(scores.values()), request.key
    confusion = Confusion.total(network.confusion for network in networks)
    row: EvaluationRow = {
        "set": key.set,
        "architecture": key.architecture,
        "protocol": key.protocol,
        "on": key.on,
        "augmentation": key.augmentation,
        "labels": key.labels,
        **summary([scores[seed].accuracy for seed in seeds]),
        "seeds": seeds,
        "epochs": request.training.epochs,
        "epoch": "last",
        "flip": request.flip,
        "training": training_settings(request.training),
        "images_per_class": images_per_class,
        "images": images,
        "precision": ", ".join(sorted({network.precision for network in networks})),
        "compiled": all(network.compiled for network in networks),
        "device": ", ".join(sorted({network.device for network in networks})),
        "commit": ", ".join(sorted({network.commit for network in networks} - {""})) or None,
        **request.origins,
        "per_class": confusion.per_class(),
        **stored_matrix(confusion, matrices),
    }
    best = [accuracy for seed in seeds if (accuracy := scores[seed].best) is not None]
    if best:
        row["best_epoch_compatibility"] = {"every": request.best_epoch, **summary(best)}
        curves = [scores[seed].curve for seed in seeds]
        if curves[0] and len({len(curve) for curve in curves}) == 1:  # scores of older versions have none
            row["best_epoch_compatibility"]["curves"] = [list(curve) for curve in curves]
    return row


def summary(accuracies: Sequence[float]) -> Summary:
    """Mean, standard deviation (0 for a single accuracy), interval, and the accuracies themselves."""
    estimated = estimate(accuracies)
    return {
        "mean": estimated.mean,
        "std": estimated.std or 0.0,
        "interval95": None if estimated.interval is None else list(estimated.interval),
        "accuracies": list(accuracies),
    }


def write_rows(folder: RunFolder, rows: Sequence[EvaluationRow]) -> None:
    """Adds rows to evaluation.json and computes the scores again. A row replaces the stored one with the same key."""
    new = {RowKey.of(row) for row in rows}
    results = [_without_large_matrix(row, folder) for row in _stored_rows(folder) if RowKey.of(row) not in new]
    results += rows
    document = sealed({"results": results, "scores": scores(results)})
    storage.write_bytes(folder.evaluation, _encoded(document))
    sweep_matrices(folder.matrices, (row["confusion_file"] for row in results if "confusion_file" in row))


def confusion_of(row: EvaluationRow, folder: RunFolder) -> Confusion | None:
    """The confusion matrix of a row of evaluation.json; None if the row has none.

    Raises:
        UserError: the matrix or its file is damaged, or the file is missing.
    """
    return read_matrix(cast(StoredMatrix, row), folder.matrices, folder.evaluation)


def read_rows(folder: RunFolder) -> list[EvaluationRow]:
    """The rows of evaluation.json with defaults for what older versions did not write; none if there is no file.

    Raises:
        UserError: the file is damaged or was changed by hand. A file of an older version has no checksum.
    """
    return [with_defaults(row) for row in _stored_rows(folder)]


def is_evaluated(config: RunConfig, folder: RunFolder, origins: Origins, classes: int) -> bool:
    """Whether evaluation.json has every row that the configuration asks for. Arguments as for ``requested_rows``."""
    rows = read_rows(folder)
    return all(request.answer(rows) is not None for request in requested_rows(config, origins, classes))


def _stored_rows(folder: RunFolder) -> list[EvaluationRow]:
    try:
        document = storage.read_json(folder.evaluation)
    except FileNotFoundError:
        return []
    # Older versions wrote these two keys without a checksum; the next write adds it.
    is_older = isinstance(document, dict) and document.keys() <= {"results", "scores"}
    (checked if is_older else parsed)(EvaluationDocument, document, folder.evaluation)
    return document["results"]  # with the numbers as they are written: 60 stays 60


def _without_large_matrix(row: EvaluationRow, folder: RunFolder) -> EvaluationRow:
    """The row with a file in place of a large matrix, which older versions wrote into the document."""
    if is_listed(len(row.get("confusion", ()))):
        return row
    matrix = confusion_of(row, folder)
    content = {key: value for key, value in row.items() if key != "confusion"}
    return cast(EvaluationRow, content | dict(stored_matrix(matrix, folder.matrices) if matrix else {}))


def _encoded(document: Mapping[str, Any]) -> bytes:
    """Indented JSON with lists of numbers on one line, so that a matrix has a line per class."""
    text = json.dumps(document, indent=2)
    flat = re.sub(r"\[\s+([-\d.eE+,\s]+?)\s+\]", lambda match: "[" + " ".join(match[1].split()) + "]", text)
    return (flat + "\n").encode()
