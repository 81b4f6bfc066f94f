"""What was found in a source and how it is read: as ``prepare`` prints it, and as the manifest of the class shards keeps it."""

from collections.abc import Mapping, Sequence
from typing import NotRequired

from pipeline.data.sources.findings import Findings
from pipeline.storage.documents import Document


class LeftOutRecord(Document):
    """Files, members of tars or rows that are not read, for one reason."""

    reason: str
    count: int
    unit: NotRequired[str]
    """What is counted, such as file or row; older versions did not write it."""
    examples: list[str]
    """The first of them."""


class FirstClass(Document):
    """The class of label 0."""

    name: str
    images: dict[str, int]
    """Number of its images, by split."""


class SourceReport(Document):
    """How a source was read."""

    unit: NotRequired[str]
    """What ``found`` and ``taken`` count, such as file or row; older versions did not write it."""
    found: int
    taken: int
    """Those of them that are images of a split, of all classes of the source."""
    left_out: list[LeftOutRecord]
    splits: dict[str, str]
    """How each split was recognised."""
    columns: dict[str, str]
    """Columns that are read, if the source has columns."""
    classes: int
    """Number of classes of the run."""
    first_class: FirstClass


def report_of(findings: Findings, titles: Sequence[str], counts: Mapping[str, Sequence[int]]) -> SourceReport:
    """Returns the report.

    Args:
        findings: what the source found.
        titles: names of the run's classes, in label order.
        counts: images per class, by split.
    """
    left_out: list[LeftOutRecord] = [
        {"reason": entry.reason, "count": entry.count, "unit": entry.unit, "examples": list(entry.examples)}
        for entry in findings.left_out
    ]
    images = {split: by_class[0] for split, by_class in counts.items()}
    return {
        "unit": findings.unit,
        "found": findings.found,
        "taken": findings.taken,
        "left_out": left_out,
        "splits": dict(findings.splits),
        "columns": dict(findings.columns),
        "classes": len(titles),
        "first_class": {"name": titles[0], "images": images},
    }


def lines_of(report: SourceReport) -> list[str]:
    """Returns the report as lines for the user."""
    lines = [f"source: {_counted(report['found'], report.get('unit'))} found, {report['taken']} read as images"]
    for entry in report["left_out"]:
        more = ", ..." if entry["count"] > len(entry["examples"]) else ""
        examples = f" ({', '.join(entry['examples'])}{more})" if entry["examples"] else ""
        lines.append(f"source: left out {_counted(entry['count'], entry.get('unit'))}, {entry['reason']}{examples}")
    lines += [f"source: {split} is {text}" for split, text in report["splits"].items()]
    lines += [f"source: the {role} is read from {column}" for role, column in report["columns"].items()]
    first = report["first_class"]
    images = " and ".join(f"{count} {split}" for split, count in first["images"].items())
    count = "1 class" if report["classes"] == 1 else f"{report['classes']} classes"
    lines.append(f"source: {count}; label 0 is {first['name']} with {images} images")
    return [line if line.isprintable() else ascii(line)[1:-1] for line in lines]  # names may contain anything


def _counted(count: int, unit: str | None) -> str:
    return f"{count} {unit}{'s' if count != 1 else ''}" if unit else f"{count}"
