"""evaluation.json: its rows, which of them a configuration asks for, and how a person reads them."""

from collections.abc import Iterable
from typing import Any

from rich.table import Table

from m3d import training_of
from pipeline import storage
from pipeline.config import RunConfig
from pipeline.errors import UserError

FILE = "evaluation.json"


def set_names(config: RunConfig) -> list[str]:
    """The sets that an evaluation compares, by name."""
    has_mosaic = config.condense.factor > 1 or config.condense.start != "noise"
    return ["condensed", "random", *(["mosaic"] if has_mosaic else [])]


def write_rows(out: str, rows: list[dict[str, Any]]) -> None:
    """Adds rows to evaluation.json; one with the same set, architecture, protocol and split replaces the old one."""
    new = {_key(row) for row in rows}
    kept = [row for row in read_rows(out) if _key(row) not in new]
    storage.write_json(storage.join(out, FILE), {"results": kept + rows})


def read_rows(out: str) -> list[dict[str, Any]]:
    """The rows of evaluation.json; none where there is none."""
    try:
        held = storage.read_json(storage.join(out, FILE))
    except FileNotFoundError:
        return []
    rows = held.get("results") if isinstance(held, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UserError(f"{storage.join(out, FILE)}: is damaged (no list 'results'); delete it and evaluate again")
    return rows


def held_row(config: RunConfig, out: str, name: str, architecture: str, seal: str) -> dict[str, Any] | None:
    """The row of evaluation.json that answers for a set and an architecture, or None.

    It must be of the same protocol, split, epochs and flip, of at least the seeds asked for, and of this very
    condensed set, whose manifest has the checksum ``seal``.
    """
    asked = {
        "set": name,
        "architecture": architecture,
        "protocol": config.evaluate.protocol,
        "on": config.evaluate.on,
        "epochs": training_of(config.evaluate).epochs,
        "flip": config.evaluate.flip,
        "condensed_set": seal,
    }
    seeds = set(range(config.evaluate.seeds))
    for row in read_rows(out):
        held = row.get("seeds")
        if all(row.get(key) == value for key, value in asked.items()) and isinstance(held, list) and seeds <= set(held):
            return row
    return None


def is_evaluated(config: RunConfig, out: str, seal: str) -> bool:
    """Whether evaluation.json holds every row that the configuration asks for, of the condensed set ``seal``."""
    names, architectures = set_names(config), config.evaluate.architectures
    return all(held_row(config, out, name, architecture, seal) for architecture in architectures for name in names)


def table(rows: Iterable[dict[str, Any]], on: str) -> Table:
    """The rows as a person reads them."""
    shown = Table(title=f"{on} accuracy, %", title_justify="left")
    for column in ("set", "architecture", "protocol", "mean", "std", "seeds"):
        shown.add_column(column, justify="right" if column in ("mean", "std", "seeds") else "left")
    for row in rows:
        shown.add_row(
            row["set"],
            row["architecture"],
            row["protocol"],
            f"{row['mean']:.1f}",
            f"{row['std']:.1f}",
            str(len(row["seeds"])),
        )
    return shown


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return (row.get("set"), row.get("architecture"), row.get("protocol"), row.get("on", "test"))
