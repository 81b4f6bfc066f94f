"""A data set in a few files that PyTorch alone can read: ``part-000.pt`` and so on."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from m3d import TestSet


class PartsError(Exception):
    """There are no parts, or one is missing."""


@dataclass(frozen=True, kw_only=True)
class Images:
    """A packed data set."""

    train: list[Tensor]
    """Per class, uint8 [n, C, H, W]."""
    test: TestSet


def load(folder: Path) -> Images:
    """Reads the parts. Raises PartsError where one is missing."""
    held = [torch.load(path, weights_only=True) for path in sorted(folder.glob("part-*.pt"))]
    if not held or held[0]["parts"] != len(held):
        wanted = held[0]["parts"] if held else "all"
        raise PartsError(
            f"--data {folder}: has {len(held)} of {wanted} parts; python -m tests.reproduce.pack makes them"
        )
    pieces = [piece for part in held for piece in part["pieces"]]
    labels = sorted({piece["label"] for piece in pieces})

    def images(split: str, label: int) -> Tensor:
        return torch.cat([one["images"] for one in pieces if (one["split"], one["label"]) == (split, label)])

    test = [images("test", label) for label in labels]
    numbers = torch.cat([torch.full((len(part),), label) for label, part in zip(labels, test, strict=True)])
    mean, std = tuple(held[0]["mean"]), tuple(held[0]["std"])
    shown = TestSet(images=torch.cat(test), labels=numbers, classes=len(labels), mean=mean, std=std)
    return Images(train=[images("train", label) for label in labels], test=shown)
