"""docs/results.md out of docs/results/*.json: what was measured, and what was published beside it."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.intervals import estimate
from pipeline.results import span
from pipeline.scores import scores
from tests.reproduce.cells import PUBLISHED
from tests.reproduce.measure import RESULTS

PAGE = RESULTS.parent / "results.md"
HEAD = """\
# Results

Everything that was measured so far. This page is made from the files in [docs/results](results) by
`python -m tests.reproduce --page`, and a test compares them. `make reproduce` measures what is missing, in pieces of nine
minutes; a cell that has a file is not measured again without `--fresh`.

Test accuracy in percent, last epoch: mean ± standard deviation over networks trained on *one* condensed set, with Student's
95 % interval of the mean where there are the single accuracies. *Published* is quoted from the M3D paper (for the
baselines: from its tables), not measured here; it is the best epoch by test accuracy. Scores are those of DD-Ranking in fractions:
IOR, the improvement over random images; HLR, what is lost against the whole set; LRS, the label-robust score.
"""


def results(folder: Path = RESULTS) -> list[dict[str, Any]]:
    """The files' contents, by name."""
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]


def page(found: list[dict[str, Any]]) -> str:
    """The whole text."""
    return "\n".join([HEAD, *(_cell(one) for one in found)])


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
    published = PUBLISHED.get((one["preset"], row["architecture"]), {}) if one.get("comparable", True) else {}
    cells = (
        row["architecture"],
        row["set"],
        f"{row['mean']:.1f} ± {row['std']:.1f}" if len(row["seeds"]) > 1 else f"{row['mean']:.1f}",
        span(row.get("interval95") or _interval(row.get("accuracies", []))),
        str(len(row["seeds"])),
        str(row["epochs"]),
        f"{published[row['set']]:.1f}" if row["set"] in published else "",
    )
    return f"| {' | '.join(cells)} |"


def _interval(accuracies: Sequence[float]) -> tuple[float, float] | None:
    return estimate(accuracies).interval if accuracies else None


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def write_page() -> None:
    """Writes docs/results.md."""
    PAGE.write_text(page(results()))
