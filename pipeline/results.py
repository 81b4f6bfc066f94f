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


def is_evaluated(config: RunConfig, out: str) -> bool:
    """Whether evaluation.json holds every row that the configuration asks for."""
    epochs, seeds = training_of(config.evaluate).epochs, set(range(config.evaluate.seeds))
    held = {_key(row) for row in read_rows(out) if row.get("epochs") == epochs and seeds <= set(row.get("seeds", ()))}
    wanted = {
        (name, architecture, config.evaluate.protocol, config.evaluate.on)
        for architecture in config.evaluate.architectures
        for name in set_names(config)
    }
    return wanted <= held


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
