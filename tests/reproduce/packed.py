"""Reads a packed data set, a few files that PyTorch alone can read: ``part-000.pt`` and so on."""

import hashlib
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from m3d import TestSet


class PartsError(Exception):
    """Parts are missing or damaged."""


@dataclass(frozen=True, kw_only=True)
class Images:
    """A packed data set."""

    train: list[Tensor]
    """Training images of each class, uint8 [n, C, H, W]."""
    test: TestSet


def load(folder: Path) -> Images:
    """Reads the parts. Raises PartsError if one is missing or damaged."""
    parts = [_part(path) for path in sorted(folder.glob("part-*.pt"))]
    if len({part["packing"] for part in parts}) > 1:
        raise PartsError(f"--data {folder}: has parts of several packings; delete them and pack again")
    if not parts or parts[0]["parts"] != len(parts):
        wanted = parts[0]["parts"] if parts else "all"
        raise PartsError(
            f"--data {folder}: has {len(parts)} of {wanted} parts; python -m tests.reproduce.pack writes them"
        )
    pieces = [piece for part in parts for piece in part["pieces"]]
    labels = sorted({piece["label"] for piece in pieces})

    def images(split: str, label: int) -> Tensor:
        return torch.cat([piece["images"] for piece in pieces if (piece["split"], piece["label"]) == (split, label)])

    test = [images("test", label) for label in labels]
    numbers = torch.cat([torch.full((len(part),), label) for label, part in zip(labels, test, strict=True)])
    mean, std = tuple(parts[0]["mean"]), tuple(parts[0]["std"])
    test_set = TestSet(images=torch.cat(test), labels=numbers, classes=len(labels), mean=mean, std=std)
    return Images(train=[images("train", label) for label in labels], test=test_set)


def checksum(pieces: Sequence[dict[str, Any]]) -> str:
    """Checksum of all pixels of a part."""
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece["images"].numpy())
    return digest.hexdigest()


def _part(path: Path) -> dict[str, Any]:
    try:
        part: dict[str, Any] = torch.load(path, weights_only=True)
        sound = checksum(part["pieces"]) == part["checksum"]
    except (RuntimeError, pickle.UnpicklingError, EOFError, KeyError):
        sound = False
    if not sound:
        raise PartsError(f"{path}: is damaged; copy it again")
    return part
