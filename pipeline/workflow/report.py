"""The report stage: grid.png, and report.html with results, images, loss curve and settings in one file."""

import base64
import contextlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from pydantic import FiniteFloat, TypeAdapter
from typing_extensions import TypedDict

from m3d import Condensed
from pipeline import storage
from pipeline.config.parsing import from_dict, to_dict
from pipeline.errors import UserError
from pipeline.evaluate.dd_ranking import scores
from pipeline.evaluate.results import confusion_of, read_rows
from pipeline.evaluate.rows import EvaluationRow
from pipeline.formats.condensed_reader import CondensedDataset, load_condensed
from pipeline.formats.provenance import without_places
from pipeline.formats.run_folder import RunFolder
from pipeline.formats.run_record import RunRecord
from pipeline.observability.pages import drawable, render, svg
from pipeline.observability.progress import say
from pipeline.storage.local.regular_files import DOCUMENT_BYTES

COLUMNS = 10
"""Largest number of stored images in a line of the grid, and of one class."""
SIDE = 96
"""Smallest side of an image in the grid, in pixels."""
LETTER = 7
"""Width of a letter of the class names, in pixels."""
GAP = 2
"""Distance between images of the grid, in pixels."""
GRID_PIXELS = 2**28
"""Most pixels of the grid, a gigabyte in memory; the classes beyond them are left out, since images of a pixel each would be enlarged to terabytes."""
LABELLED = 40
"""Largest number of classes that a confusion matrix names."""
DRAWN = 1000
"""Largest number of lines of a confusion matrix; with more classes, a line is several classes."""

Row = Mapping[str, Any]
"""A row of evaluation.json, or a score that follows from its rows."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """Contents of report.html, named as its template names them."""

    record: RunRecord
    rows: Sequence[Row]
    """Rows of evaluation.json, in their order there."""
    has_best: bool
    """Whether any row has the best test epoch as well."""
    scores: Sequence[Row]
    """Scores of the rows for which there is a row of random images."""
    confusion: str
    """Confusion matrix as SVG, or an empty string."""
    classes: int
    stored: int
    """Stored images per class."""
    shape: str
    """Channels, height and width of a stored image, such as ``3x32x32``."""
    factor: int
    """Tiles per side of a stored image."""
    shown: int
    """Stored images per class in the grid."""
    grid: str
    """grid.png in base64."""
    curve: str
    """Loss curve as SVG, or an empty string."""
    config: str
    """Configuration of the run as indented JSON."""


class _LossLine(TypedDict):
    """A line of metrics.jsonl, as far as the curve needs it."""

    iteration: int
    loss: dict[str, FiniteFloat]


def report(folder: RunFolder) -> None:
    """Writes grid.png and report.html of a run whose condensed set is finished.

    Raises:
        UserError: the folder contains no run, or its condensed set is not finished.
    """
    record = folder.read_record()
    if record is None:
        raise UserError(
            f"{folder}: contains no run (no config.json); give the folder that was --out of `run` or `condense`"
        )
    dataset = load_condensed(folder.path, decode=False, normalise=False)
    grid = _png(grid_image(dataset.stored, dataset.class_names))
    storage.write_bytes(folder.grid, grid)
    page = render("pipeline.workflow", "report.html.jinja", **vars(_contents(folder, record, dataset, grid)))
    storage.write_bytes(folder.report, page.encode())
    say(f"report: {folder.report}")


def is_reported(folder: RunFolder) -> bool:
    """Whether grid.png and report.html exist."""
    return storage.exists(folder.grid) and storage.exists(folder.report)


def grid_image(condensed: Condensed, names: list[str]) -> Image.Image:
    """Returns each class's name and first stored images, enlarged to at least ``SIDE`` pixels; small sets side by side."""
    images = condensed.images_KSCHW[:, :COLUMNS].numpy()
    _, shown, _, height, _ = images.shape
    side = height * max(1, -(-SIDE // height)) + GAP
    label = 16 + LETTER * max(len(drawable(name)) for name in names)
    classes = min(len(images), max(1, GRID_PIXELS // ((label + shown * side) * side)))
    across = min(classes, COLUMNS // shown)
    canvas = Image.new("RGB", (across * (label + shown * side), -(-classes // across) * side), "white")
    draw = ImageDraw.Draw(canvas)
    for k in range(classes):
        top, left = k // across * side, k % across * (label + shown * side)
        draw.text((left + 8, top + side // 2 - 6), drawable(names[k]), fill="black")
        for column in range(shown):
            tile = _pixels(images[k, column]).resize((side - GAP, side - GAP), Image.Resampling.NEAREST)
            canvas.paste(tile, (left + label + column * side, top))
    return canvas


def _contents(folder: RunFolder, record: RunRecord, dataset: CondensedDataset, grid: bytes) -> Report:
    rows = read_rows(folder)
    stored, record = dataset.stored.images_KSCHW, _complete(record, folder)
    return Report(
        record=record,
        rows=[{"architecture": "", "protocol": "", "std": 0.0, "seeds": [], **row} for row in rows],  # of any version
        has_best=any("best_epoch_compatibility" in row for row in rows),
        scores=[score for score in scores(rows) if score["ior"] is not None],
        confusion=_confusion(folder, rows, dataset.class_names),
        classes=len(dataset.class_names),
        stored=stored.shape[1],
        shape="x".join(map(str, stored.shape[2:])),
        factor=dataset.stored.factor,
        shown=min(COLUMNS, stored.shape[1]),
        grid=base64.b64encode(grid).decode(),
        curve=_loss_curve(_losses(folder)),
        config=json.dumps(record["config"], indent=2),
    )


def _complete(record: RunRecord, folder: RunFolder) -> RunRecord:
    """The record as a page shows it: with settings that older versions did not write, without paths, and with the name of
    the data that were read. Raises UserError if a setting is not allowed."""
    config = from_dict(record["config"], origin=folder.config_json)
    data = folder.read_manifest().get("data")
    return {**record, "config": to_dict(without_places(config, data["name"] if data else config.data.name))}


def _pixels(image_CHW: np.ndarray) -> Image.Image:
    array = np.round(np.clip(np.nan_to_num(image_CHW), 0, 1).transpose(1, 2, 0) * 255).astype(np.uint8)
    return Image.fromarray(array.squeeze(-1) if array.shape[2] == 1 else array).convert("RGB")


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _losses(folder: RunFolder) -> list[tuple[int, float]]:
    """Returns (iteration, loss): the mean over classes at each iteration for which every class logged a loss."""
    try:
        lines = storage.read_bytes(folder.metrics, DOCUMENT_BYTES).decode(errors="replace").splitlines()
    except FileNotFoundError:
        return []
    by_iteration: dict[int, dict[str, float]] = {}
    for line in lines:
        with contextlib.suppress(ValueError):  # the last line of a run that was killed, or a damaged one
            entry = TypeAdapter(_LossLine).validate_json(line)
            by_iteration.setdefault(entry["iteration"], {}).update(entry["loss"])
    classes = max((len(losses) for losses in by_iteration.values()), default=0)
    return [
        (iteration, sum(losses.values()) / classes)
        for iteration, losses in sorted(by_iteration.items())
        if len(losses) == classes
    ]


def _loss_curve(points: Sequence[tuple[int, float]]) -> str:
    """Returns the curve as SVG, or an empty string for fewer than two points."""
    if len(points) < 2:
        return ""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 2.6), layout="constrained")
    axes = figure.subplots()
    axes.plot([iteration for iteration, _ in points], [loss for _, loss in points], linewidth=1.2)
    axes.set_xlabel("iteration")
    axes.set_ylabel("MMD² (mean over classes)")
    axes.grid(alpha=0.3)
    return svg(figure)


def _confusion(folder: RunFolder, rows: Sequence[EvaluationRow], names: list[str]) -> str:
    """Returns the first matrix of the condensed set as SVG, or an empty string if no row has one."""
    with_matrix = (
        row for row in rows if row["set"] == "condensed" and (row.get("confusion") or "confusion_file" in row)
    )
    row = next(with_matrix, None)
    matrix = None if row is None else confusion_of(row, folder)
    if row is None or matrix is None:
        return ""
    if matrix.classes != len(names):
        raise UserError(
            f"{folder.evaluation}: has a confusion matrix of {matrix.classes} classes, the condensed set has {len(names)}; "
            "delete it and evaluate again"
        )
    from matplotlib.figure import Figure

    shares = matrix.blocks(DRAWN).astype(float)
    shares /= np.maximum(1, shares.sum(1, keepdims=True))
    side = min(9.0, 2.5 + 0.3 * matrix.classes)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xlabel("predicted as")
    axes.set_ylabel("class")
    if matrix.classes <= LABELLED:
        ticks = range(matrix.classes)
        axes.set_xticks(ticks, [drawable(name) for name in names], rotation=90)
        axes.set_yticks(ticks, [drawable(name) for name in names])
    title = f"{row.get('architecture', '')}, {row.get('protocol', '')}"
    axes.set_title(drawable(title, most=60), fontsize=10)
    return svg(figure)
