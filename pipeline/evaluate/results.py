"""evaluation.json: rows from the scores of networks, reading and writing them. No Ray here."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from typing_extensions import TypedDict

from pipeline import storage
from pipeline.config.run_config import RunConfig
from pipeline.errors import UserError
from pipeline.evaluate.dd_ranking import RankingScore, scores
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
from pipeline.formats.run_folder import RunFolder


@dataclass(frozen=True, kw_only=True)
class NetworkScore:
    """The result of one network."""

    accuracy: float
    """Accuracy in percent after the last epoch."""
    confusion: list[list[int]]
    """Test images by their class (outer list) and by the class that the network predicts (inner list)."""
    best: float | None
    """Best test accuracy among the measured epochs, or None if only the last one was measured."""
    precision: str
    compiled: bool
    device: str = ""
    """Device that trained the network, in words."""
    commit: str = ""
    """Commit of the program that trained the network, if it is known."""


class EvaluationDocument(TypedDict):
    """evaluation.json."""

    results: list[EvaluationRow]
    scores: list[RankingScore]


def row_of(
    request: RowRequest, scores: Mapping[int, NetworkScore], *, images_per_class: float, images: int | None = None
) -> EvaluationRow:
    """The row that answers a request.

    Args:
        request: what was asked for.
        scores: results by seed, at least one.
        images_per_class: stored images of every class.
        images: number of images that a network was trained on.
    """
    seeds, networks, key = sorted(scores), list(scores.values()), request.key
    confusion = [[sum(cells) for cells in zip(*lines, strict=True)] for lines in _lines(networks)]
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
        "per_class": per_class(confusion),
        "confusion": confusion,
    }
    best = [accuracy for seed in seeds if (accuracy := scores[seed].best) is not None]
    if best:
        row["best_epoch_compatibility"] = {"every": request.best_epoch, **summary(best)}
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


def per_class(confusion: Sequence[Sequence[int]]) -> list[float]:
    """Accuracy of every class in percent, in label order: the diagonal over the sum of its line."""
    return [100 * line[label] / max(1, sum(line)) for label, line in enumerate(confusion)]


def write_rows(folder: RunFolder, rows: Sequence[EvaluationRow]) -> None:
    """Adds rows to evaluation.json and computes the scores again. A row replaces the stored one with the same key."""
    new = {RowKey.of(row) for row in rows}
    results = [row for row in _stored_rows(folder) if RowKey.of(row) not in new] + list(rows)
    document: EvaluationDocument = {"results": results, "scores": scores(results)}
    storage.write_bytes(folder.evaluation, _encoded(document))


def read_rows(folder: RunFolder) -> list[EvaluationRow]:
    """The rows of evaluation.json with defaults for what older versions did not write; none if there is no file.

    Raises:
        UserError: the file is damaged.
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
    rows = document.get("results") if isinstance(document, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UserError(f"{folder.evaluation}: is damaged (no list 'results'); delete it and evaluate again")
    return rows


def _lines(networks: Iterable[NetworkScore]) -> Iterable[tuple[list[int], ...]]:
    """The same line of every network's matrix, line by line."""
    return zip(*(network.confusion for network in networks), strict=True)


def _encoded(document: Mapping[str, Any]) -> bytes:
    """Indented JSON with lists of numbers on one line, so that a matrix has a line per class."""
    text = json.dumps(document, indent=2)
    flat = re.sub(r"\[\s+([-\d.eE+,\s]+?)\s+\]", lambda match: "[" + " ".join(match[1].split()) + "]", text)
    return (flat + "\n").encode()
