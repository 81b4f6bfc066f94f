"""A data set in a few files that PyTorch alone can read: ``part-000.pt`` and so on."""

import hashlib
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import torch
from torch import Tensor

from m3d import TestSet


class PartsError(Exception):
    """There are no parts, or one is missing or damaged."""


class Piece(TypedDict):
    """Images of one class and split."""

    split: str
    label: int
    images: Tensor


class Part(TypedDict):
    """Contents of one file."""

    packing: str
    parts: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    pieces: list[Piece]
    checksum: str


@dataclass(frozen=True, kw_only=True)
class Images:
    """A packed data set."""

    train: list[Tensor]
    """Per class, uint8 [n, C, H, W]."""
    test: TestSet


def load(folder: Path) -> Images:
    """Reads the parts. Raises PartsError where one is missing or damaged."""
    held = [_part(path) for path in sorted(folder.glob("part-*.pt"))]
    if len({part["packing"] for part in held}) > 1:
        raise PartsError(f"--data {folder}: has parts of several packings; delete them and pack again")
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


def checksum(pieces: Sequence[Piece]) -> str:
    """Of all pixels of a part."""
    found = hashlib.sha256()
    for piece in pieces:
        found.update(piece["images"].numpy().data)
    return found.hexdigest()


def _part(path: Path) -> Part:
    try:
        held: Part = torch.load(path, weights_only=True)
        sound = checksum(held["pieces"]) == held["checksum"]
    except (RuntimeError, pickle.UnpicklingError, EOFError, KeyError):
        sound = False
    if not sound:
        raise PartsError(f"{path}: is damaged; bring it again")
    return held
