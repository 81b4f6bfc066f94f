"""Means with their spread: standard deviations, 95 % intervals and paired differences."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.special import stdtrit

CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean over networks. Deviation and interval are None with a single one, which tells nothing of the spread."""

    mean: float
    std: float | None
    """Sample standard deviation, with n - 1."""
    interval: tuple[float, float] | None
    """Where the mean of many networks lies in 95 % of all such samples: mean +- t(n - 1) std / sqrt(n), Student's t."""


def estimate(values: Sequence[float]) -> Estimate:
    """Mean, deviation and interval of at least one value."""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return Estimate(mean=mean, std=None, interval=None)
    std = statistics.stdev(values)
    half = float(stdtrit(len(values) - 1, (1 + CONFIDENCE) / 2)) * std / math.sqrt(len(values))
    return Estimate(mean=mean, std=std, interval=(mean - half, mean + half))


def paired(ours: dict[int, float], theirs: dict[int, float]) -> Estimate | None:
    """The difference ``ours - theirs`` over the seeds that both have, seed by seed; None where they share none.

    Networks of one seed begin with the same weights, so their difference varies less than either.
    """
    seeds = sorted(ours.keys() & theirs.keys())
    return estimate([ours[seed] - theirs[seed] for seed in seeds]) if seeds else None
