"""comparison.html: the page of a comparison of condensed sets, beside comparison.json."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline import storage
from pipeline.evaluate.rows import ComparisonRow
from pipeline.evaluate.tables import NONE, described_protocol, deviation, span
from pipeline.formats.run_folder import RunFolder
from pipeline.observability.pages import render
from pipeline.observability.progress import say
from pipeline.workflow.report.accuracy import Bars, bars_of

FILE = "comparison.html"


@dataclass(frozen=True, kw_only=True)
class ComparedLine:
    """A row of the table."""

    number: int
    architecture: str
    protocol: str
    images_per_class: str
    mean: str
    std: str
    interval: str
    difference: str
    difference_interval: str
    note: str


def write_comparison(folder: RunFolder, rows: Sequence[ComparisonRow], *, classes: int, on: str) -> None:
    """Writes the page.

    Args:
        folder: in which comparison.json is.
        rows: of the comparison, those of the first set first within each architecture.
        classes: number of classes of the data.
        on: the split that the networks were tested on.
    """
    names = list(dict.fromkeys(row["set"] for row in rows))
    architectures = dict.fromkeys(row["architecture"] for row in rows)
    groups: list[Bars] = [
        bars_of(
            f"{name}, {on} images",
            [row for row in rows if row["architecture"] == name],
            chance=100 / classes,
            ours=names[0],
        )
        for name in architectures
    ]
    page = render(
        __package__ or "",
        "comparison.html.jinja",
        names=names,
        groups=groups,
        lines=[_line(row, names) for row in rows],
        on=on,
        single=any(not deviation(row) for row in rows),
    )
    storage.write_bytes(folder.file(FILE), page.encode())
    say(f"comparison: {folder.file(FILE)}")


def _line(row: ComparisonRow, names: Sequence[str]) -> ComparedLine:
    difference = row["difference"]
    return ComparedLine(
        number=1 + names.index(row["set"]),
        architecture=row["architecture"],
        protocol=described_protocol(row),
        images_per_class=f"{row['images_per_class']:g}",
        mean=f"{row['mean']:.1f}",
        std=deviation(row) or NONE,
        interval=span(row.get("interval95")) or NONE,
        difference="first set" if difference is None else f"{difference:+.1f}",
        difference_interval=span(row["difference_interval95"]) or NONE,
        note=row["note"],
    )
