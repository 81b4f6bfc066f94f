"""Intervals of Student's t and paired differences."""

import math

import pytest

from pipeline.evaluate.intervals import estimate, paired


def test_interval_of_students_t() -> None:
    # t(4) at 97.5 %: 2.776445; the standard deviation of 1 to 5 is sqrt(2.5).
    estimated = estimate([1.0, 2.0, 3.0, 4.0, 5.0])
    half = 2.776445 * math.sqrt(2.5 / 5)
    assert estimated.interval == pytest.approx((3 - half, 3 + half), rel=1e-6)
    assert (estimated.mean, estimated.std) == (3.0, pytest.approx(math.sqrt(2.5)))
    assert estimate([7.0]).interval is None


def test_paired_differences_are_by_seed() -> None:
    ours, theirs = {0: 50.0, 1: 60.0, 3: 1.0}, {1: 58.0, 0: 49.0, 2: 99.0}
    difference = paired(ours, theirs)
    assert difference is not None
    assert difference.mean == 1.5
    assert difference.interval is not None
    assert difference.interval[0] == pytest.approx(1.5 - 12.7062 * math.sqrt(0.5) / math.sqrt(2), rel=1e-4)
    assert paired({0: 1.0}, {1: 1.0}) is None
