"""Reads the file of a peer, checked: as training images, decoded and normalised, or as it is stored, in [0, 1]."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from m3d import decode, standardise
from pipeline.errors import UserError
from pipeline.formats.peers.argument import PeerFile
from pipeline.formats.peers.peer_format import LayoutError, Moments, Stored
from pipeline.formats.peers.registry import FORMATS, NORMALISED

FARTHEST = 0.5
"""How far pixels may lie outside 0 to 1: the published loops of IDC and M3D store the result of their last step unclamped."""
ROUNDING = 1e-5
"""How far pixels lie outside 0 to 1 by rounding alone, once they are no longer normalised."""
MOST_CLASSES = 2**20
"""Most classes of a file."""


@dataclass(frozen=True, kw_only=True)
class PeerSet:
    """The content of a file as training images."""

    images: Tensor
    """Decoded and normalised, float32 [n, C, H, W]."""
    labels: Tensor
    """int64 [n]."""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    stored: int
    """Number of images in the file, before decoding."""
    note: str = ""
    """What the user should know about the file; often empty."""


@dataclass(frozen=True, kw_only=True)
class StoredSet:
    """The content of a file as it is stored."""

    images: Tensor
    """float32 [n, C, H, W] in [0, 1]."""
    labels: Tensor
    """int64 [n]."""
    notes: tuple[str, ...] = ()
    """What the user should know about the file."""


def read(
    file: PeerFile,
    *,
    shape: tuple[int, int, int],
    classes: int,
    moments: tuple[Sequence[float], Sequence[float]] | None,
) -> PeerSet:
    """Returns the content of a file as training images.

    Args:
        file: path, layout and options.
        shape: channels, height and width of the data that the set is compared on.
        classes: number of classes of that data.
        moments: mean and standard deviation. Images in [0, 1] are normalised with them. The images of a normalised file
            are assumed to use them unless the file's own options differ; these images stay as they are, and the test
            images are normalised alike. None if nothing is known of a normalised file: then the options must say it.

    Raises:
        UserError: the file cannot be read, or has another layout, shape or number of classes.
    """
    stored = _stored(file)
    images, labels, notes = _tensors(file, stored, classes)
    _check(file, images, labels, shape, classes)
    mean, std = _moments(file, moments, ":mean=A/B/C:std=A/B/C")
    if len(mean) != shape[0] or len(std) != shape[0]:
        raise UserError(f"{file.path}: mean and std need a number for each of {shape[0]} channels")
    if file.layout not in NORMALISED:
        images, clamped = _within_bounds(file, images, f"name it {file.path}:dc or :mtt")
        notes += clamped
        images = standardise(decode(images[:, None], file.factor).flatten(0, 1), mean, std)
    elif file.factor != 1:
        images = decode(_denormalised(images, mean, std)[:, None], file.factor).flatten(0, 1)
        images = standardise(images, mean, std)
    if file.layout in NORMALISED and not (file.mean and file.std):
        notes.append(f"assumed to be normalised with mean {_joined(mean)} and std {_joined(std)}")
    return PeerSet(
        images=images,
        labels=labels.repeat_interleave(len(images) // len(labels)),
        mean=mean,
        std=std,
        stored=len(labels),
        note="; ".join(notes),
    )


def read_stored(file: PeerFile, *, classes: int | None) -> StoredSet:
    """Returns the content of a file as it is stored, not decoded, with pixels in [0, 1].

    Args:
        file: path, layout and options. The images of a normalised file need its mean and std.
        classes: number of classes, if it is known. Defaults to the largest label and one.

    Raises:
        UserError: the file cannot be read, has another layout or other classes, or its moments are not known.
    """
    stored = _stored(file)
    count = _class_count(stored.labels) if classes is None else classes
    images, labels, notes = _tensors(file, stored, count)
    if images.ndim != 4:
        raise UserError(f"{file.path}: holds images of shape {list(images.shape)}, needed [n, C, H, W]")
    channels, height, width = images.shape[1:]
    _check(file, images, labels, (channels, height, width), count)
    if file.layout not in NORMALISED:
        images, clamped = _within_bounds(file, images, "add --from dc or --from mtt")
        return StoredSet(images=images, labels=labels, notes=(*notes, *clamped))
    mean, std = _moments(file, None, "--like SET, a set of the same data, or --mean A/B/C --std A/B/C")
    if len(mean) != channels or len(std) != channels:
        raise UserError(f"{file.path}: mean and std need a number for each of {channels} channels")
    images, clamped = unnormalised(images, (mean, std))
    return StoredSet(images=images, labels=labels, notes=(*notes, *clamped))


def unnormalised(images: Tensor, moments: Moments) -> tuple[Tensor, list[str]]:
    """Returns normalised images as pixels in [0, 1], and a note if any were outside by more than rounding."""
    images = _denormalised(images.detach().float(), *moments)
    outside = float(((images < -ROUNDING) | (images > 1 + ROUNDING)).float().mean())
    if not outside:
        return images.clamp(0, 1), []
    lowest, highest = float(images.min()), float(images.max())
    return images.clamp(0, 1), [
        f"{outside:.2%} of the pixels were outside 0 to 1 ({lowest:.3g} to {highest:.3g}), clamped"
    ]


def _class_count(labels: Any) -> int:
    """Number of classes by the labels themselves: columns of soft labels, else the largest label and one."""
    if isinstance(labels, list | tuple):
        first = labels[0] if labels else 0
        if isinstance(first, list | tuple | Tensor):
            return min(MOST_CLASSES, max(1, len(first) if not isinstance(first, Tensor) else first.numel()))
        labels = torch.tensor([float(each) for each in labels if isinstance(each, float) or _is_small(each)])
    if not isinstance(labels, Tensor) or labels.is_complex() or labels.is_quantized or not labels.numel():
        return 1  # no labels, which is reported when they are read
    if labels.ndim == 2 and labels.shape[1] > 1:
        return min(MOST_CLASSES, labels.shape[1])
    return int(labels.double().max().nan_to_num(0, 0, 0).clamp(0, MOST_CLASSES - 1)) + 1


def _is_small(value: Any) -> bool:
    return isinstance(value, int) and abs(value) < 2**53


def _stored(file: PeerFile) -> Stored:
    try:
        return FORMATS[file.layout].read(file.path)
    except LayoutError as error:
        raise UserError(
            f"{file.path}: is not of layout {file.layout} ({error}); allowed: {', '.join(FORMATS)}"
        ) from None


def _tensors(file: PeerFile, stored: Stored, classes: int) -> tuple[Tensor, Tensor, list[str]]:
    """Images in float32, labels in int64, and notes."""
    images = stored.images.detach()
    if images.is_complex() or images.is_quantized or images.layout != torch.strided:
        raise UserError(f"{file.path}: its images are {images.dtype}, {images.layout}; save plain real numbers")
    labels = _label_numbers(file, stored.labels, len(images) if images.ndim else 0, classes)
    if not bool(labels.isfinite().all()):
        raise UserError(
            f"{file.path}: its labels are not finite; give the classes' numbers, or probabilities of classes"
        )
    if labels.ndim == 2 and labels.shape[1] == classes > 1:
        notes = ["its soft labels were replaced by hard labels, the most probable classes"]
        if tied := int(((labels == labels.amax(1, keepdim=True)).sum(1) > 1).sum()):
            notes.append(f"{tied} of {len(labels)} soft labels have several most probable classes; the first was used")
        return images.float(), labels.argmax(1), notes
    if labels.ndim > 1 and labels.numel() != len(labels):
        raise UserError(
            f"{file.path}: its labels have shape {list(labels.shape)}; allowed: [n], [n, 1] or [n, {classes}]"
        )
    if not bool((labels == labels.round()).all()):
        raise UserError(f"{file.path}: its labels are not whole numbers; allowed: 0 to {classes - 1}")
    # Beyond float64's whole numbers nothing is a class.
    return images.float(), labels.flatten().clamp(-1, 2**53).long(), []


def _label_numbers(file: PeerFile, labels: Any, count: int, classes: int) -> Tensor:
    """Labels in float64. A list may hold a number or the probabilities of the classes for every image, and nothing deeper."""
    if isinstance(labels, list | tuple):
        if len(labels) != count:
            raise UserError(f"{file.path}: holds {count} images and {len(labels)} labels")
        rows = [row.tolist() if isinstance(row, Tensor) and row.numel() <= classes else row for row in labels]
        values = [value for row in rows for value in (row[: classes + 1] if isinstance(row, list | tuple) else [row])]
        labels = rows if all(isinstance(value, int | float) for value in values) else None
    try:
        numbers = torch.as_tensor(labels)
        if numbers.is_complex() or numbers.is_quantized or numbers.layout != torch.strided:
            raise TypeError
        return numbers.detach().double()
    except (RuntimeError, ValueError, TypeError, OverflowError):
        raise UserError(f"{file.path}: its labels are not numbers ({type(labels).__name__})") from None


def _check(file: PeerFile, images: Tensor, labels: Tensor, shape: tuple[int, int, int], classes: int) -> None:
    """Raises UserError if images or labels are not those of the data."""
    if images.ndim != 4 or tuple(images.shape[1:]) != tuple(shape):
        raise UserError(f"{file.path}: holds images of shape {list(images.shape[1:])}, the data has {list(shape)}")
    if len(labels) != len(images):
        raise UserError(f"{file.path}: holds {len(images)} images and {len(labels)} labels")
    if len(images) == 0 or int(labels.min()) < 0 or int(labels.max()) >= classes:
        raise UserError(f"{file.path}: its labels are not those of {classes} classes, 0 to {classes - 1}")
    if not bool(images.isfinite().all()):
        raise UserError(f"{file.path}: holds pixels that are not finite")


def _moments(file: PeerFile, moments: tuple[Sequence[float], Sequence[float]] | None, options: str) -> Moments:
    """What a file is normalised with. Raises UserError with the options to add if that is not known."""
    if moments is None and not (file.mean and file.std):
        raise UserError(
            f"{file.path}: layout {file.layout} is normalised, but its moments are not known for this data; add {options}"
        )
    mean, std = moments or ((), ())
    return tuple(file.mean or mean), tuple(file.std or std)


def _within_bounds(file: PeerFile, images: Tensor, advice: str) -> tuple[Tensor, list[str]]:
    """Pixels clamped to [0, 1], and a note if any were outside. Normalised ones are refused, with the advice."""
    outside = float(((images < 0) | (images > 1)).float().mean())
    if not outside:
        return images, []
    lowest, highest = float(images.min()), float(images.max())
    if lowest < -FARTHEST or highest > 1 + FARTHEST:
        raise UserError(
            f"{file.path}: layout {file.layout} has pixels from 0 to 1, these reach from {lowest:.2g} to {highest:.2g}; if they "
            f"are normalised, {advice}"
        )
    return images.clamp(0, 1), [
        f"{outside:.2%} of the pixels were outside 0 to 1 ({lowest:.3g} to {highest:.3g}), clamped"
    ]


def _denormalised(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Normalised images in [0, 1] again."""
    return images * images.new_tensor(std).view(-1, 1, 1) + images.new_tensor(mean).view(-1, 1, 1)


def _joined(numbers: Sequence[float]) -> str:
    return "/".join(f"{number:.4g}" for number in numbers)
