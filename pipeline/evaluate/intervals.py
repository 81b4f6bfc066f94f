"""Means with their spread: standard deviations, 95 % intervals and paired differences. No Ray here."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean over networks. A single network does not show the spread: deviation and interval are None then."""

    mean: float
    std: float | None
    """Sample standard deviation, with n - 1."""
    interval: tuple[float, float] | None
    """95 % confidence interval of the mean: mean +- t(n - 1) std / sqrt(n), Student's t."""


def estimate(values: Sequence[float]) -> Estimate:
    """Mean, standard deviation and interval of one or more values."""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return Estimate(mean=mean, std=None, interval=None)
    from scipy.special import stdtrit  # not at the top: reading rows does not need SciPy

    std = statistics.stdev(values)
    half = float(stdtrit(len(values) - 1, (1 + CONFIDENCE) / 2)) * std / math.sqrt(len(values))
    return Estimate(mean=mean, std=std, interval=(mean - half, mean + half))


def paired(ours: dict[int, float], theirs: dict[int, float]) -> Estimate | None:
    """The difference ``ours - theirs`` over the shared seeds, seed by seed; None if they share none.

    Networks of one seed start from the same weights, so their difference varies less than either.
    """
    seeds = sorted(ours.keys() & theirs.keys())
    return estimate([ours[seed] - theirs[seed] for seed in seeds]) if seeds else None
