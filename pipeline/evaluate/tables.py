"""Tables of rows and scores for the terminal. No Ray here."""

from collections.abc import Iterable, Sequence

from rich.table import Table

from pipeline.evaluate.dd_ranking import RankingScore
from pipeline.evaluate.rows import EvaluationRow

TEXT_COLUMNS = ("set", "architecture", "protocol")
"""Columns that are aligned left; numbers are aligned right."""
NONE = "-"
"""Text of a cell without a value."""
ONE_NETWORK = "-: one network shows no spread; add --seeds 5"
NO_WHOLE_SET = "HLR and LRS need the accuracy of all images: python -m pipeline pretrain"
"""Why cells have no value."""
KEY_COLUMNS = ("set", "architecture")
"""Columns that identify a row: they are never cut or folded, the others give way on a narrow terminal."""
WORD = len("augmentation,")
"""Letters of the longest word of a protocol; a column is folded between words only."""


def table(rows: Sequence[EvaluationRow], on: str) -> Table:
    """The rows as a table. Intervals and best epochs have a column if one of the rows has them.

    Args:
        rows: complete rows.
        on: the split that they were tested on.
    """
    shown = Table(title=f"{on} accuracy, %", title_justify="left")
    has_interval = any(row.get("interval95") for row in rows)
    has_best = any("best_epoch_compatibility" in row for row in rows)
    columns = [*TEXT_COLUMNS, "mean", "std", *(["95 % interval"] if has_interval else []), "seeds"]
    columns += ["best test epoch (compatibility)"] if has_best else []
    add_columns(shown, columns)
    for row in rows:
        best = row.get("best_epoch_compatibility")
        shown.add_row(
            row["set"],
            row["architecture"],
            described_protocol(row),
            f"{row['mean']:.1f}",
            deviation(row) or NONE,
            *([span(row.get("interval95")) or NONE] if has_interval else []),
            str(len(row["seeds"])),
            *([f"{best['mean']:.1f}" if best else NONE] if has_best else []),
        )
    if not all(deviation(row) for row in rows):
        explain(shown, ONE_NETWORK)
    return shown


def scores_table(scores: Iterable[RankingScore]) -> Table | None:
    """IOR, HLR and LRS as a table, or None if there is no row of random images to compare with."""
    compared = [score for score in scores if score["ior"] is not None]
    if not compared:
        return None
    shown = Table(title="scores, fractions", title_justify="left")
    add_columns(shown, ("architecture", "protocol", "IOR", "its 95 % interval", "HLR", "LRS"))
    for score in compared:
        shown.add_row(
            score["architecture"],
            described_protocol(score),
            _fraction(score["ior"]),
            span(score["ior_interval95"], 3) or NONE,
            _fraction(score["hlr"]),
            _fraction(score["lrs"]),
        )
    reasons = [ONE_NETWORK] if any(score["ior_interval95"] is None for score in compared) else []
    reasons += [NO_WHOLE_SET] if any(score["hlr"] is None for score in compared) else []
    explain(shown, *reasons)
    return shown


def explain(shown: Table, *reasons: str) -> None:
    """Says below a table why cells have no value, a line per reason."""
    shown.caption, shown.caption_justify = "\n".join(reasons) or None, "left"


def add_columns(shown: Table, columns: Iterable[str]) -> None:
    """Adds columns with their alignment."""
    for column in columns:
        justify = "left" if column in TEXT_COLUMNS else "right"
        whole = WORD if column == "protocol" else max(5, *map(len, column.split()))
        shown.add_column(column, justify=justify, no_wrap=column in KEY_COLUMNS, min_width=whole, overflow="fold")


def described_protocol(row: EvaluationRow | RankingScore) -> str:
    """The protocol of a row or of a score, with its variants."""
    augmentation = ", no augmentation" if row["augmentation"] == "none" else ""
    labels = ", soft labels" if row["labels"] == "soft" else ""
    return f"{row['protocol']}{augmentation}{labels}"


def deviation(row: EvaluationRow) -> str:
    """The standard deviation of a row as text; an empty text for one network, which shows no spread."""
    return f"{row['std']:.1f}" if "std" in row and len(row.get("seeds") or row.get("accuracies") or ()) > 1 else ""


def span(interval: Sequence[float] | None, digits: int = 1) -> str:
    """An interval as text; an empty text for None."""
    return "" if not interval else f"{interval[0]:.{digits}f} to {interval[1]:.{digits}f}"


def _fraction(value: float | None) -> str:
    return NONE if value is None else f"{value:.3f}"
