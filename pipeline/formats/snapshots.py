"""Snapshots of a condensation: the images of a group at some iterations, as bytes, for people to look at.

    OUT/snapshots/group-00000-000000117.safetensors    images [K, S, C, H, W] uint8

They are much smaller than a checkpoint: of each class the first images, large ones reduced. Nothing is resumed from them.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline import storage
from pipeline.storage.tensors import read_tensors, write_tensors

IMAGES = 10
"""Most images of a class in a snapshot."""
SIDE = 96
"""Largest side of an image in a snapshot, in pixels."""
BYTES = 2**30
"""Largest file that is read."""
NAME = re.compile(r"group-(\d{5,9})-(\d{9,10})\.safetensors")


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """The images of all classes at one iteration."""

    iteration: int
    images_KSCHW: Tensor
    """uint8, in the order of the labels, from label 0 on."""


def snapshot_iterations(iterations: int, count: int) -> list[int]:
    """The iterations at which ``count`` snapshots are taken, rising from 0, below ``iterations``.

    They lie close together at the start, when the images change most: at i**2 / count**2 of all iterations.
    """
    return sorted({iterations * i * i // (count * count) for i in range(count)})


def write_snapshot(folder: str, group: int, iteration: int, pixels_KSCHW: Tensor, identity: str) -> None:
    """Writes the snapshot of a group, visible at once. The same arguments give the same content.

    Args:
        folder: of the snapshots, local or a URL.
        group: number of the group.
        iteration: iterations that the images have had.
        pixels_KSCHW: stored images in [0, 1] on the CPU, as ``reduced`` returns them.
        identity: checksum of everything that the pixels depend on.
    """
    metadata = {"iteration": str(iteration), "identity": identity}
    path = storage.join(folder, f"group-{group:05d}-{iteration:09d}.safetensors")
    write_tensors(path, {"images": pixels_KSCHW}, metadata, checked="iteration")


def reduced(pixels_KSCHW: Tensor) -> Tensor:
    """The first images of every class as uint8 on the CPU, those above ``SIDE`` pixels made smaller."""
    images = pixels_KSCHW[:, :IMAGES].detach().clamp(0, 1).cpu()
    classes, stored, channels, height, width = images.shape
    if height > SIDE:
        size = (SIDE, max(1, SIDE * width // height))
        flat = F.interpolate(images.flatten(0, 1), size=size, mode="bilinear", antialias=True)
        images = flat.view(classes, stored, channels, *size)
    return (images * 255).round().to(torch.uint8).contiguous()


def read_snapshots(folder: str, groups: Sequence[Sequence[int]], identity: str, *, classes: int) -> list[Snapshot]:
    """The snapshots for which every group has its images, by rising iteration; damaged and foreign ones are left out.

    Args:
        folder: of the snapshots, local or a URL.
        groups: labels of the classes of every group.
        identity: checksum of everything that the pixels depend on.
        classes: number of classes to read, from the first on; groups without one of them are not opened.
    """
    wanted = {number: labels for number, labels in enumerate(groups) if min(labels, default=classes) < classes}
    names = (NAME.fullmatch(name) for name in storage.files_below(folder, ".safetensors"))
    found: dict[int, set[int]] = {}
    for name in names:
        if name is not None:
            found.setdefault(int(name[2]), set()).add(int(name[1]))
    complete = [iteration for iteration in sorted(found) if found[iteration] >= set(range(len(groups)))]
    snapshots = (_read(folder, iteration, wanted, identity, classes) for iteration in complete)
    return [snapshot for snapshot in snapshots if snapshot is not None]


def _read(
    folder: str, iteration: int, groups: Mapping[int, Sequence[int]], identity: str, classes: int
) -> Snapshot | None:
    by_label: dict[int, Tensor] = {}
    for group, labels in groups.items():
        path = storage.join(folder, f"group-{group:05d}-{iteration:09d}.safetensors")
        if storage.size_of(path) > BYTES:
            return None
        file = read_tensors(path, checked="iteration")
        images = None if file is None else file.tensors.get("images")
        if file is None or images is None or file.metadata.get("identity") != identity:
            return None
        if images.ndim != 5 or images.dtype != torch.uint8 or len(images) != len(labels):
            return None
        by_label.update(zip(labels, images, strict=True))
    first = range(min(classes, len(by_label)))
    shapes = {by_label[label].shape for label in first if label in by_label}
    if not by_label.keys() >= set(first) or len(shapes) != 1 or 0 in next(iter(shapes)):
        return None
    return Snapshot(iteration=iteration, images_KSCHW=torch.stack([by_label[label] for label in first]))
