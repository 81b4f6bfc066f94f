"""The confusion matrix on the page: a table of numbers, or a picture and the most frequent confusions of many classes."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from pipeline.errors import UserError
from pipeline.evaluate.results import confusion_of
from pipeline.evaluate.rows import EvaluationRow
from pipeline.formats.confusion_matrix import Confusion
from pipeline.formats.run_folder import RunFolder
from pipeline.observability.pages import data_url

IN_FULL = 20
"""Most classes of a matrix that is a table."""
DRAWN = 500
"""Largest number of lines of a picture; with more classes, a line is several classes."""
PAIRS = 12
"""Number of confusions that are named."""
COLOUR = (74, 128, 204)
"""Colour of the picture; shares are its opacity, so that it suits light and dark pages."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A cell of the table."""

    count: int
    share: float
    """Of the images of its class, 0 to 1."""
    right: bool
    """Whether it is on the diagonal."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A confusion of two classes."""

    name: str
    predicted: str
    count: int
    percent: float
    """Of the images of the class."""


@dataclass(frozen=True, kw_only=True)
class ConfusionSection:
    """What the page shows of a matrix."""

    title: str
    on: str
    """Images that the networks were scored on: test or validation."""
    names: Sequence[str]
    cells: Sequence[Sequence[Cell]]
    """The table; empty if there are too many classes."""
    picture: str
    """The picture as a URL, if there is no table."""
    pairs: Sequence[Pair]
    per_class: Sequence[float]
    """Accuracy of every class in percent."""


def confusion_section(
    folder: RunFolder, rows: Sequence[EvaluationRow], names: Sequence[str]
) -> ConfusionSection | None:
    """Returns the first matrix of the condensed set, or None if no row has one.

    Raises:
        UserError: the matrix is damaged, or has another number of classes.
    """
    with_matrix = (
        row for row in rows if row["set"] == "condensed" and (row.get("confusion") or "confusion_file" in row)
    )
    row = next(with_matrix, None)
    matrix = None if row is None else confusion_of(row, folder)
    if row is None or matrix is None:
        return None
    if matrix.classes != len(names):
        raise UserError(
            f"{folder.evaluation}: has a confusion matrix of {matrix.classes} classes, the condensed set has {len(names)}; "
            "delete it and evaluate again"
        )
    counts = matrix.blocks(DRAWN)
    shares = counts / np.maximum(1, counts.sum(1, keepdims=True))
    full = matrix.classes <= IN_FULL
    return ConfusionSection(
        title=f"{row.get('architecture', '')}, {row.get('protocol', '')}",
        on=row.get("on", "test"),
        names=names,
        cells=_cells(counts, shares) if full else [],
        picture="" if full else _picture(shares),
        pairs=_pairs(matrix, names),
        per_class=matrix.per_class(),
    )


def _cells(counts: np.ndarray, shares: np.ndarray) -> list[list[Cell]]:
    return [
        [
            Cell(count=int(counts[k, j]), share=round(float(shares[k, j]), 3), right=k == j)
            for j in range(counts.shape[1])
        ]
        for k in range(len(counts))
    ]


def _picture(shares: np.ndarray) -> str:
    pixels = np.zeros((*shares.shape, 4), np.uint8)
    pixels[..., :3] = COLOUR
    pixels[..., 3] = np.round(255 * shares**0.6)  # rare confusions are seen as well
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    return data_url(buffer.getvalue(), "image/png")


def _pairs(matrix: Confusion, names: Sequence[str]) -> list[Pair]:
    wrong = matrix.labels != matrix.predicted
    totals = np.zeros(matrix.classes, np.int64)
    np.add.at(totals, matrix.labels, matrix.counts)
    labels, predicted, counts = matrix.labels[wrong], matrix.predicted[wrong], matrix.counts[wrong]
    order = np.argsort(-counts, kind="stable")[:PAIRS]
    return [
        Pair(
            name=names[int(labels[i])],
            predicted=names[int(predicted[i])],
            count=int(counts[i]),
            percent=100 * int(counts[i]) / int(totals[labels[i]]),
        )
        for i in order
    ]
