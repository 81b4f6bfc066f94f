"""Scores that follow from the rows of an evaluation, as DD-Ranking (Li et al., 2025) defines them; accuracies in fractions.

IOR = acc(condensed) - acc(random)      improvement over random, the same protocol
HLR = acc(whole) - acc(condensed)       hard-label recovery: what is lost against the whole set, both with hard labels
LRS = (e^a - e^-1) / (e - e^-1),  a = (IOR - HLR) / 2, from -1 to 1
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from pipeline.evaluate.intervals import paired

LIKE = ("architecture", "protocol", "on", "augmentation", "labels")
"""What a score is named by."""
SAME = ("training", "epochs", "flip", "condensed_set", "class_shards")
"""What two rows must share besides, where both have it: rows of other epochs, condensed sets or images are no pair."""


def label_robust_score(ior: float, hlr: float) -> float:
    """LRS of an improvement over random and a hard-label recovery, both in fractions; from 0 to 1."""
    alpha = (ior - hlr) / 2
    return (math.exp(alpha) - math.exp(-1)) / (math.e - math.exp(-1))


def scores(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """A score per architecture, protocol, split, augmentation and kind of labels for which there is a condensed row.

    HLR and LRS are None without a row of the whole set. That row is trained under a schedule of its own, which is
    recorded in it; it is looked up by architecture and split, with hard labels. HLR, the *hard-label* recovery, is that of the
    condensed row with hard labels also where the score is one of soft labels, and None where there is no such row.
    """
    rows = [known(row) for row in rows]
    found = []
    for row in rows:
        if row["set"] != "condensed":
            continue
        # Soft labels are measured against random images with hard labels: reported apart, never mixed with the others.
        kind = {**{key: row[key] for key in LIKE}, "labels": "hard"}
        alike = [other for other in rows if _alike(row, other)]
        random, hard = _first(alike, {**kind, "set": "random"}), _first(alike, {**kind, "set": "condensed"})
        whole = _first(rows, {"set": "whole", **{key: row[key] for key in ("architecture", "on")}})
        ior, interval = (None, None) if random is None else _improvement(row, random)
        hlr = None if whole is None or hard is None else (whole["mean"] - hard["mean"]) / 100
        found.append(
            {
                **{key: row[key] for key in LIKE},
                "accuracy": row["mean"] / 100,
                "ior": ior,
                "ior_interval95": interval,
                "hlr": hlr,
                "lrs": None if ior is None or hlr is None else label_robust_score(ior, hlr),
            }
        )
    return found


def known(row: dict[str, Any]) -> dict[str, Any]:
    """The row with what older versions did not write."""
    return {"on": "test", "augmentation": "protocol", "labels": "hard", **row}


def by_seed(row: dict[str, Any]) -> dict[int, float]:
    """Accuracy by seed, in percent."""
    seeds: Sequence[int] = row.get("seeds", [])
    return dict(zip(seeds, row.get("accuracies", []), strict=False))


def _improvement(row: dict[str, Any], random: dict[str, Any]) -> tuple[float, list[float] | None]:
    """The mean difference over the seeds that both rows have, and its interval; of the means where they share none."""
    difference = paired(by_seed(row), by_seed(random))
    if difference is None:
        return (row["mean"] - random["mean"]) / 100, None
    interval = difference.interval and [end / 100 for end in difference.interval]
    return difference.mean / 100, interval


def _alike(row: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(row[key] == other[key] for key in SAME if row.get(key) is not None and other.get(key) is not None)


def _first(rows: list[dict[str, Any]], asked: dict[str, Any]) -> dict[str, Any] | None:
    return next((row for row in rows if all(row.get(key) == value for key, value in asked.items())), None)
