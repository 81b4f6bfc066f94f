"""Scores of DD-Ranking (Li et al., 2025), computed from the rows of an evaluation; accuracies are fractions.

IOR = acc(condensed) - acc(random)      improvement over random images, under the same protocol
HLR = acc(whole) - acc(condensed)       hard-label recovery: the loss against the full training set, both with hard labels
LRS = (e^a - e^-1) / (e - e^-1)         where a = (IOR - HLR) / 2 lies in [-1, 1]; LRS lies in [0, 1]
"""

import math
from collections.abc import Iterable
from dataclasses import replace

from typing_extensions import TypedDict

from pipeline.evaluate.intervals import paired
from pipeline.evaluate.rows import EvaluationRow, RowKey, is_comparable, is_whole_set_row


class RankingScore(TypedDict):
    """Scores of one condensed row, in fractions."""

    architecture: str
    protocol: str
    on: str
    augmentation: str
    labels: str
    accuracy: float
    ior: float | None
    ior_interval95: list[float] | None
    hlr: float | None
    lrs: float | None


def label_robust_score(ior: float, hlr: float) -> float:
    """LRS, from 0 to 1, of an improvement over random and a hard-label recovery, both in fractions."""
    alpha = (ior - hlr) / 2
    return (math.exp(alpha) - math.exp(-1)) / (math.e - math.exp(-1))


def scores(rows: Iterable[EvaluationRow]) -> list[RankingScore]:
    """The scores of every condensed row: one per architecture, protocol, split, augmentation and kind of labels.

    IOR needs a row of random images, HLR one of the full training set; both are None without it, and LRS needs both. The
    row of the full training set has a schedule of its own, which it records: it is found by architecture and split.
    HLR is the *hard-label* recovery: it uses the condensed row with hard labels, also for a score of soft labels.
    """
    rows = list(rows)
    return [_score(row, rows) for row in rows if RowKey.of(row).set == "condensed"]


def key_of(score: RankingScore) -> RowKey:
    """The key of the condensed row that a score belongs to."""
    return RowKey(
        set="condensed",
        architecture=score["architecture"],
        protocol=score["protocol"],
        on=score["on"],
        augmentation=score["augmentation"],
        labels=score["labels"],
    )


def by_seed(row: EvaluationRow) -> dict[int, float]:
    """Accuracy by seed, in percent."""
    return dict(zip(row.get("seeds", []), row.get("accuracies", []), strict=False))


def _score(row: EvaluationRow, rows: list[EvaluationRow]) -> RankingScore:
    key = RowKey.of(row)
    # Soft labels are compared with random images under hard labels; their scores are reported apart from the others.
    hard_key = replace(key, labels="hard")
    comparable = [other for other in rows if is_comparable(row, other)]
    random, hard = _find(comparable, replace(hard_key, set="random")), _find(comparable, hard_key)
    whole = next((other for other in rows if is_whole_set_row(other, key)), None)
    ior, interval = (None, None) if random is None else _improvement(row, random)
    hlr = None if whole is None or hard is None else (whole["mean"] - hard["mean"]) / 100
    return {
        "architecture": key.architecture,
        "protocol": key.protocol,
        "on": key.on,
        "augmentation": key.augmentation,
        "labels": key.labels,
        "accuracy": row["mean"] / 100,
        "ior": ior,
        "ior_interval95": interval,
        "hlr": hlr,
        "lrs": None if ior is None or hlr is None else label_robust_score(ior, hlr),
    }


def _improvement(row: EvaluationRow, random: EvaluationRow) -> tuple[float, list[float] | None]:
    """Mean difference over the shared seeds, and its interval; the difference of the means if no seed is shared."""
    difference = paired(by_seed(row), by_seed(random))
    if difference is None:
        return (row["mean"] - random["mean"]) / 100, None
    interval = None if difference.interval is None else [end / 100 for end in difference.interval]
    return difference.mean / 100, interval


def _find(rows: Iterable[EvaluationRow], key: RowKey) -> EvaluationRow | None:
    return next((row for row in rows if RowKey.of(row) == key), None)
