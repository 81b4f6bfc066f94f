"""The report stage: grid.png, and report.html with results, images, loss curve and settings in one file."""

import base64
import io
import json
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, select_autoescape
from PIL import Image, ImageDraw

from m3d import Condensed
from pipeline import storage
from pipeline.errors import UserError
from pipeline.evaluate.dd_ranking import scores
from pipeline.evaluate.results import read_rows
from pipeline.evaluate.rows import EvaluationRow
from pipeline.formats.condensed_reader import CondensedDataset, load_condensed
from pipeline.formats.run_folder import RunFolder
from pipeline.formats.run_record import RunRecord
from pipeline.observability.progress import say

COLUMNS = 10
"""Stored images that a line of the grid shows, and at most of one class."""
SIDE = 96
"""Least size of an image in the grid, in pixels."""
LETTER = 7
"""Width of a letter of the class names, in pixels."""
GAP = 2
LABELLED = 40
"""Classes up to which a confusion matrix names them."""


def report(out: str) -> None:
    """Writes grid.png and report.html of a run whose condensed set is finished.

    Raises:
        UserError: the set is not finished.
    """
    record = RunFolder(out).read_record()
    if record is None:
        raise UserError(f"{out}: holds no run (no config.json)")
    held = load_condensed(out, decode=False, normalise=False)
    grid = _png(grid_image(held.stored, held.class_names))
    storage.write_bytes(storage.join(out, "grid.png"), grid)
    rows = read_rows(RunFolder(out))
    page = _page(record, held, rows, grid, _loss_curve(_losses(out)))
    storage.write_bytes(storage.join(out, "report.html"), page.encode())
    say(f"report: {storage.join(out, 'report.html')}")


def is_reported(out: str) -> bool:
    """Whether both files are there."""
    return all(storage.exists(storage.join(out, name)) for name in ("grid.png", "report.html"))


def grid_image(condensed: Condensed, names: list[str]) -> Image.Image:
    """Every class's name and its first stored images, enlarged to at least ``SIDE`` pixels; small sets side by side."""
    images = condensed.images_KSCHW[:, :COLUMNS].numpy()
    classes, shown, _, height, _ = images.shape
    side = height * max(1, -(-SIDE // height)) + GAP
    label = 16 + LETTER * max(len(_short(name)) for name in names)
    across = min(classes, COLUMNS // shown)
    canvas = Image.new("RGB", (across * (label + shown * side), -(-classes // across) * side), "white")
    draw = ImageDraw.Draw(canvas)
    for k in range(classes):
        top, left = k // across * side, k % across * (label + shown * side)
        draw.text((left + 8, top + side // 2 - 6), _short(names[k]), fill="black")
        for column in range(shown):
            tile = _pixels(images[k, column]).resize((side - GAP, side - GAP), Image.Resampling.NEAREST)
            canvas.paste(tile, (left + label + column * side, top))
    return canvas


def _short(name: str) -> str:
    return name if len(name) <= 18 else name[:17] + "…"


def _pixels(image_CHW: np.ndarray) -> Image.Image:
    array = np.round(image_CHW.transpose(1, 2, 0) * 255).astype(np.uint8)
    return Image.fromarray(array.squeeze(-1) if array.shape[2] == 1 else array).convert("RGB")


def _png(image: Image.Image) -> bytes:
    sink = io.BytesIO()
    image.save(sink, "PNG")
    return sink.getvalue()


def _losses(out: str) -> list[tuple[int, float]]:
    """(iteration, loss): the mean over the classes that reported at each iteration."""
    try:
        lines = storage.read_bytes(storage.join(out, "metrics.jsonl")).decode().splitlines()
    except FileNotFoundError:
        return []
    found: dict[int, dict[str, float]] = {}
    for line in lines:
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            continue  # the last line of a run that was killed
        found.setdefault(entry["iteration"], {}).update(entry["loss"])
    whole = max((len(values) for values in found.values()), default=0)
    return [(at, sum(held.values()) / whole) for at, held in sorted(found.items()) if len(held) == whole]


def _loss_curve(points: list[tuple[int, float]]) -> str:
    """An SVG picture, or an empty string without points."""
    if len(points) < 2:
        return ""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 2.6), layout="constrained")
    axes = figure.subplots()
    axes.plot([at for at, _ in points], [value for _, value in points], linewidth=1.2)
    axes.set_xlabel("iteration")
    axes.set_ylabel("MMD² (mean over classes)")
    axes.grid(alpha=0.3)
    return _svg(figure)


def _confusion(rows: list[EvaluationRow], names: list[str]) -> str:
    """A picture of the condensed set's first matrix as SVG, or an empty string where no row has one."""
    row = next((row for row in rows if row["set"] == "condensed" and row.get("confusion")), None)
    if row is None:
        return ""
    from matplotlib.figure import Figure

    shares = np.asarray(row.get("confusion"), dtype=float)
    shares /= np.maximum(1, shares.sum(1, keepdims=True))
    side = min(9.0, 2.5 + 0.3 * len(shares))
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xlabel("taken for")
    axes.set_ylabel("class")
    if len(shares) <= LABELLED:
        ticks = range(len(shares))
        axes.set_xticks(ticks, [_short(name) for name in names], rotation=90)
        axes.set_yticks(ticks, [_short(name) for name in names])
    axes.set_title(f"{row['architecture']}, {row['protocol']}", fontsize=10)
    return _svg(figure)


def _svg(figure: Any) -> str:
    sink = io.StringIO()
    figure.savefig(sink, format="svg")
    return sink.getvalue()[sink.getvalue().index("<svg") :]


def _page(record: RunRecord, held: CondensedDataset, rows: list[EvaluationRow], grid: bytes, curve: str) -> str:
    environment = Environment(
        loader=PackageLoader("pipeline.workflow", "."), autoescape=select_autoescape(default=True)
    )
    template = environment.get_template("report.html.jinja")
    stored = held.stored.images_KSCHW
    return template.render(
        record=record,
        rows=rows,
        has_best=any("best_epoch_compatibility" in row for row in rows),
        scores=[one for one in scores(rows) if one["ior"] is not None],
        confusion=_confusion(rows, held.class_names),
        classes=len(held.class_names),
        stored=stored.shape[1],
        shape="x".join(map(str, stored.shape[2:])),
        factor=held.stored.factor,
        shown=min(COLUMNS, stored.shape[1]),
        grid=base64.b64encode(grid).decode(),
        curve=curve,
        config=json.dumps(record["config"], indent=2),
    )
