"""How rows of evaluation.json and their scores are shown to a person."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.table import Table

from pipeline.evaluate.dd_ranking import known


def table(rows: Iterable[dict[str, Any]], on: str) -> Table:
    """The rows as a person reads them."""
    rows = [known(row) for row in rows]
    shown = Table(title=f"{on} accuracy, %", title_justify="left")
    interval, best = any(row.get("interval95") for row in rows), any("best_epoch_compatibility" in row for row in rows)
    right = ("mean", "std", "95 % interval", "seeds", "best test epoch (compatibility)")
    columns = ["set", "architecture", "protocol", "mean", "std", *(["95 % interval"] if interval else []), "seeds"]
    for column in [*columns, *([right[-1]] if best else [])]:
        shown.add_column(column, justify="right" if column in right else "left")
    for row in rows:
        shown.add_row(
            row["set"],
            row["architecture"],
            described_protocol(row),
            f"{row['mean']:.1f}",
            f"{row['std']:.1f}",
            *([span(row.get("interval95"))] if interval else []),
            str(len(row["seeds"])),
            *(
                [f"{row['best_epoch_compatibility']['mean']:.1f}" if "best_epoch_compatibility" in row else ""]
                if best
                else []
            ),
        )
    return shown


def described_protocol(row: Mapping[str, Any]) -> str:
    """The protocol of a row or of a score, with what sets it apart."""
    apart = [
        ", no augmentation" if row["augmentation"] == "none" else "",
        ", soft labels" if row["labels"] == "soft" else "",
    ]
    return row["protocol"] + "".join(apart)


def span(interval: Sequence[float] | None, digits: int = 1) -> str:
    """An interval as text; nothing for none."""
    return "" if not interval else f"{interval[0]:.{digits}f} to {interval[1]:.{digits}f}"


def scores_table(found: Iterable[dict[str, Any]]) -> Table | None:
    """IOR, HLR and LRS as a person reads them, or None where there is no random row to compare with."""
    held = [one for one in found if one["ior"] is not None]
    if not held:
        return None
    shown = Table(title="scores, fractions", title_justify="left")
    for column in ("architecture", "protocol", "IOR", "its 95 % interval", "HLR", "LRS"):
        shown.add_column(column, justify="left" if column in ("architecture", "protocol") else "right")
    for one in held:
        figures = ["" if one[key] is None else f"{one[key]:.3f}" for key in ("ior", "hlr", "lrs")]
        shown.add_row(
            one["architecture"], described_protocol(one), figures[0], span(one["ior_interval95"], 3), *figures[1:]
        )
    return shown
