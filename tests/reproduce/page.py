"""Generates docs/results.md from docs/results/*.json: measured figures beside the published ones."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.evaluate.dd_ranking import scores
from pipeline.evaluate.intervals import estimate
from pipeline.evaluate.tables import span
from tests.reproduce.cells import BASELINES, CELLS, PUBLISHED
from tests.reproduce.measure import RESULTS

PAGE = RESULTS.parent / "results.md"
HEAD = """\
# Results

Everything measured so far. `python -m tests.reproduce --page` generates this page from the files in `docs/results`, and a
test compares them. `make reproduce` measures missing cells, nine minutes per call; a cell that has a file is not measured
again without `--fresh`.

- **Accuracies** are test accuracies in percent after the last epoch: mean ± standard deviation over networks trained on *one* condensed
  set. If the accuracies of the single networks are known, there is also Student's 95 % interval of the mean.
- ***Published*** numbers are quoted from the M3D paper (for the baselines: from its tables), not measured here. They are the best epoch by
  test accuracy.
- **Scores** are DD-Ranking's, as fractions: IOR, the improvement over random images; HLR, the loss against the whole set; LRS, the
  label-robust score.

The [glossary](glossary.md#evaluation) explains cell, baseline and protocol.

## All cells

The table shows the network that condensed, trained on each set; *published* refers to the condensed set. A section for each cell
below has the other networks, intervals, seeds, commits, hardware and commands. The whole set has a schedule of its own. Cells whose
names begin with *early* were measured by hand, before `make reproduce` existed. Pictures show stored images, before decoding;
`python -m docs.pictures CELL RUN` draws them.
"""
SETS = (*BASELINES, "whole")


def results(folder: Path = RESULTS) -> list[dict[str, Any]]:
    """Contents of the files: cells in their order, then the other files by name."""
    order = {cell.name: number for number, cell in enumerate(CELLS)}
    paths = sorted(folder.glob("*.json"), key=lambda path: (order.get(path.stem, len(order)), path.stem))
    return [json.loads(path.read_text()) for path in paths]


def page(cells: list[dict[str, Any]]) -> str:
    """The full text of the page."""
    return "\n".join([HEAD, _overview(cells), *(_cell(cell) for cell in cells)])


def _overview(cells: list[dict[str, Any]]) -> str:
    names = ("cell", "iterations", "epochs", *(name.replace("_", " ") for name in SETS), "published")
    lines = [f"| {' | '.join(names)} |", f"|{' --- |' * len(names)}", *(_summary(cell) for cell in cells), ""]
    return "\n".join(lines)


def _summary(cell: dict[str, Any]) -> str:
    """The line of a cell, for the network that condensed: that of the first condensed row."""
    first = next(row for row in cell["rows"] if row["set"] == "condensed")
    rows = {row["set"]: row for row in cell["rows"] if row["architecture"] == first["architecture"]}
    figures = [_mean(rows[name]) if name in rows else "" for name in SETS]
    columns = (
        f"[{cell['cell']}](#{cell['cell']})",
        str(cell["schedule"]["iterations"]),
        str(first["epochs"]),
        *figures,
        _published(cell, first),
    )
    return f"| {' | '.join(columns)} |"


def _cell(cell: dict[str, Any]) -> str:
    lines = [f"## {cell['cell']}", ""]
    if (PAGE.parent / "images" / f"{cell['cell']}.png").exists():
        lines += [f"![The condensed images of {cell['cell']}, a column per class](images/{cell['cell']}.png)", ""]
    if cell.get("note"):
        lines += [cell["note"], ""]
    lines += [
        "| architecture | set | measured | 95 % interval | seeds | epochs | published |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [_row(cell, row) for row in cell["rows"]]
    scored = cell.get("scores") or [score for score in scores(cell["rows"]) if score["ior"] is not None]
    if scored:
        lines += ["", "| architecture | IOR | HLR | LRS |", "| --- | --- | --- | --- |"]
        lines += [
            f"| {score['architecture']} | {' | '.join(_figure(score[key]) for key in ('ior', 'hlr', 'lrs'))} |"
            for score in scored
        ]
    schedule = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in cell["schedule"].items())
    commits = {
        name: re.sub(r"[0-9a-f]{40}", lambda hit: hit[0][:12], text or "unknown")
        for name, text in cell["commit"].items()
    }
    origin = "; ".join(f"{name} at {commits[name]} on {cell['hardware'][name]}" for name in ("condensed", "evaluated"))
    lines += [
        "",
        f"Schedule: {schedule}. {origin[0].upper()}{origin[1:]}.",
        "",
        "```bash",
        *cell["commands"],
        "```",
        "",
    ]
    return "\n".join(lines)


def _row(cell: dict[str, Any], row: dict[str, Any]) -> str:
    columns = (
        row["architecture"],
        row["set"],
        _mean(row),
        span(row.get("interval95") or _interval(row.get("accuracies", []))),
        str(len(row["seeds"])),
        str(row["epochs"]),
        _published(cell, row),
    )
    return f"| {' | '.join(columns)} |"


def _mean(row: dict[str, Any]) -> str:
    return f"{row['mean']:.1f} ± {row['std']:.1f}" if len(row["seeds"]) > 1 else f"{row['mean']:.1f}"


def _published(cell: dict[str, Any], row: dict[str, Any]) -> str:
    """The published figure of a row's set and network if the cell has the published schedule, else empty."""
    figures = PUBLISHED.get((cell["preset"], row["architecture"]), {}) if cell.get("comparable", True) else {}
    return f"{figures[row['set']]:.1f}" if row["set"] in figures else ""


def _interval(accuracies: Sequence[float]) -> tuple[float, float] | None:
    return estimate(accuracies).interval if accuracies else None


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def write_page() -> None:
    """Writes docs/results.md."""
    PAGE.write_text(page(results()))
