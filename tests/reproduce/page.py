"""docs/results.md out of docs/results/*.json: what was measured, and what was published beside it."""

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

Everything measured so far. `python -m tests.reproduce --page` generates this page from the files in [docs/results](results), and a
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
names begin with *early* were measured by hand, before `make reproduce` existed.
"""
SETS = (*BASELINES, "whole")


def results(folder: Path = RESULTS) -> list[dict[str, Any]]:
    """The files' contents: cells in their order, then what is none of them by name."""
    order = {cell.name: number for number, cell in enumerate(CELLS)}
    paths = sorted(folder.glob("*.json"), key=lambda path: (order.get(path.stem, len(order)), path.stem))
    return [json.loads(path.read_text()) for path in paths]


def page(found: list[dict[str, Any]]) -> str:
    """The whole text."""
    return "\n".join([HEAD, _overview(found), *(_cell(one) for one in found)])


def _overview(found: list[dict[str, Any]]) -> str:
    names = ("cell", "iterations", "epochs", *(name.replace("_", " ") for name in SETS), "published")
    lines = [f"| {' | '.join(names)} |", f"|{' --- |' * len(names)}", *(_summary(one) for one in found), ""]
    return "\n".join(lines)


def _summary(one: dict[str, Any]) -> str:
    """A line for the network of the first condensed row, which is the one that condensed."""
    first = next(row for row in one["rows"] if row["set"] == "condensed")
    rows = {row["set"]: row for row in one["rows"] if row["architecture"] == first["architecture"]}
    figures = [_mean(rows[name]) if name in rows else "" for name in SETS]
    cells = (
        f"[{one['cell']}](#{one['cell']})",
        str(one["schedule"]["iterations"]),
        str(first["epochs"]),
        *figures,
        _published(one, first),
    )
    return f"| {' | '.join(cells)} |"


def _cell(one: dict[str, Any]) -> str:
    lines = [f"## {one['cell']}", ""]
    if one.get("note"):
        lines += [one["note"], ""]
    lines += [
        "| architecture | set | measured | 95 % interval | seeds | epochs | published |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [_row(one, row) for row in one["rows"]]
    found = one.get("scores") or [score for score in scores(one["rows"]) if score["ior"] is not None]
    if found:
        lines += ["", "| architecture | IOR | HLR | LRS |", "| --- | --- | --- | --- |"]
        lines += [
            f"| {score['architecture']} | {' | '.join(_figure(score[key]) for key in ('ior', 'hlr', 'lrs'))} |"
            for score in found
        ]
    schedule = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in one["schedule"].items())
    commits = {
        name: re.sub(r"[0-9a-f]{40}", lambda hit: hit[0][:12], text or "unknown")
        for name, text in one["commit"].items()
    }
    said = "; ".join(f"{name} at {commits[name]} on {one['hardware'][name]}" for name in ("condensed", "evaluated"))
    lines += ["", f"Schedule: {schedule}. {said[0].upper()}{said[1:]}.", "", "```bash", *one["commands"], "```", ""]
    return "\n".join(lines)


def _row(one: dict[str, Any], row: dict[str, Any]) -> str:
    cells = (
        row["architecture"],
        row["set"],
        _mean(row),
        span(row.get("interval95") or _interval(row.get("accuracies", []))),
        str(len(row["seeds"])),
        str(row["epochs"]),
        _published(one, row),
    )
    return f"| {' | '.join(cells)} |"


def _mean(row: dict[str, Any]) -> str:
    return f"{row['mean']:.1f} ± {row['std']:.1f}" if len(row["seeds"]) > 1 else f"{row['mean']:.1f}"


def _published(one: dict[str, Any], row: dict[str, Any]) -> str:
    """The published figure of a row's set and network, where the cell's schedule is the published one."""
    held = PUBLISHED.get((one["preset"], row["architecture"]), {}) if one.get("comparable", True) else {}
    return f"{held[row['set']]:.1f}" if row["set"] in held else ""


def _interval(accuracies: Sequence[float]) -> tuple[float, float] | None:
    return estimate(accuracies).interval if accuracies else None


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def write_page() -> None:
    """Writes docs/results.md."""
    PAGE.write_text(page(results()))
