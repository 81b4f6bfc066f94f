"""Some real images of every class, from class shards that are there already. Nothing is prepared or fetched for a page."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from m3d.seeding import generator
from pipeline.data.prepared_dataset import PreparedDataset
from pipeline.errors import UserError
from pipeline.workflow.report.gallery import CARDS
from pipeline.workflow.report.settings import without_folders

MOST_BYTES = 4 * 2**30
"""Most bytes of class shards that are read. A shard is read completely, since its checksum is compared."""
PER_CLASS = 60
"""Most real images of a class; fewer of many classes, so that all together take ``KEPT_BYTES``."""
KEPT_BYTES = 2**28
SHOWN = 10
"""Real images of each of the first ``CARDS`` classes that are kept in any case, to be shown."""


@dataclass(frozen=True, kw_only=True)
class RealSample:
    """Real images for the page."""

    by_label: dict[int, Tensor]
    """uint8 [n, C, H, W] of every class that was read."""
    note: str
    """Why images are missing, or an empty text."""


def real_sample(dataset: PreparedDataset | None, missing: str, *, classes: list[str], seed: int) -> RealSample:
    """Returns real training images, chosen at random.

    Args:
        dataset: class shards of the run, or None if they were not found.
        missing: why they were not found.
        classes: names of the condensed classes.
        seed: of the run.
    """
    if dataset is None:
        return RealSample(by_label={}, note=missing)
    if [entry["name"] for entry in dataset.classes] != classes:
        return RealSample(by_label={}, note="The class shards have other classes than the condensed set.")
    by_label: dict[int, Tensor] = {}
    each = KEPT_BYTES // (len(classes) * int(np.prod(dataset.manifest["shape"])))
    read = 0
    for label in range(len(classes)):
        read += dataset.train_bytes([label])
        if read > MOST_BYTES and by_label:
            note = f"Real images of the first {label} classes are shown: reading more than 4 GiB would take too long."
            return RealSample(by_label=by_label, note=note)
        try:
            images = dataset.train(label)
        except UserError as error:
            return RealSample(by_label=by_label, note=f"Real images are missing: {without_folders(str(error))}.")
        order = torch.randperm(len(images), generator=generator(seed, "report", label))
        count = max(min(each, PER_CLASS), SHOWN if label < CARDS else 1)
        by_label[label] = images[order[:count]].clone()
    return RealSample(by_label=by_label, note="")
