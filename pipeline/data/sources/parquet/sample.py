"""A few rows of every class from a few row groups, to see what the images are like without reading all of them."""

from collections.abc import Mapping
from typing import TypeVar

import numpy as np

from pipeline.data.sources.protocol import spread

GROUPS = 32
"""Most row groups that are read."""
SPREAD_OVER = 8
"""Row groups over which the rows of a class are spread, if it has as many."""
GOLDEN = 0.618033988749895

File = TypeVar("File")


def few_rows(wanted: Mapping[File, np.ndarray], groups: Mapping[File, list[int]], most: int) -> dict[File, np.ndarray]:
    """Returns the class of the rows of a sample, -1 for all other rows, by file.

    Args:
        wanted: the class of every row of each file, -1 for rows that do not matter.
        groups: rows of every row group of each file.
        most: rows of each class, at most.
    """
    spans: list[tuple[File, int, np.ndarray]] = []
    for file, classes in wanted.items():
        if not groups[file]:  # a file without rows
            continue
        stops = np.cumsum(groups[file])
        parts = np.split(classes, stops[:-1])
        spans += [
            (file, stop - len(own), own) for stop, own in zip(stops.tolist(), parts, strict=True) if (own >= 0).any()
        ]
    missing = dict.fromkeys(np.unique(np.concatenate([own for _, _, own in spans])).tolist() if spans else [], most)
    missing.pop(-1, None)
    at_once = -(-most // min(SPREAD_OVER, max(1, len(spans))))
    sample = {file: np.full_like(classes, -1) for file, classes in wanted.items()}
    # Multiples of the golden ratio are spread evenly, wherever one stops.
    order = sorted(range(len(spans)), key=lambda i: (i * GOLDEN) % 1)
    left = GROUPS
    for at_most in (most, 1):  # first the classes that have no row yet, then all that have too few
        for i in order:
            file, start, own = spans[i]
            few = [label for label in np.unique(own).tolist() if missing.get(label, 0) >= at_most]
            if not few or not left:
                continue
            left -= 1
            for label in few:
                rows = spread((np.flatnonzero(own == label) + start).tolist(), min(at_once, missing[label]))
                missing[label] -= int(np.count_nonzero(sample[file][rows] < 0))
                sample[file][rows] = label
    return sample
