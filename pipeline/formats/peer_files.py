"""Condensed sets in the files of other projects, named like ``FILE.pt:idc:factor=2``. No Ray here.

    idc, ncfm   [images, labels]: stored images in [0, 1], ``factor`` x ``factor`` tiles each (IDC, M3D, DANCE, NCFM)
    dc          {"data": [[images, labels], ...]}: the last pair; normalised (DC, DSA, DM)
    mtt         images, with the labels in a file beside it (``labels_best.pt`` beside ``images_best.pt``); normalised

They are read with ``weights_only=True``: a file can hold numbers and names, never code.
"""

import io
import math
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from m3d import decode, standardise
from pipeline import storage
from pipeline.errors import UserError, listed, nearest

LAYOUTS = ("idc", "dc", "mtt", "ncfm")
NORMALISED = ("dc", "mtt")
OPTIONS = ("factor", "mean", "std")
FARTHEST = 0.5
"""How far pixels may lie outside 0 to 1: the published loops of IDC and M3D store what their last steps left, unclamped."""


@dataclass(frozen=True, kw_only=True)
class PeerFile:
    """A file as it was named on the command line."""

    path: str
    layout: str
    factor: int = 1
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class PeerSet:
    """A file's content as training images."""

    images: Tensor
    """Decoded and normalised, float32 [n, C, H, W]."""
    labels: Tensor
    mean: tuple[float, ...]
    std: tuple[float, ...]
    stored: int
    """Images in the file, before decoding."""
    note: str = ""


def is_peer(given: str) -> bool:
    """Whether an argument names a file rather than a folder."""
    return re.search(r"\.pth?(:|$)", given) is not None


def parse(given: str) -> PeerFile:
    """``FILE.pt:LAYOUT`` with options such as ``:factor=2`` or ``:mean=0.5/0.5/0.5:std=0.2/0.2/0.2``.

    Raises:
        UserError: no layout, an unknown one, or an option that is none.
    """
    found = re.fullmatch(r"(.+?\.pth?)(?::(.*))?", given)
    if found is None or not found[2]:
        raise UserError(f"{given}: name its layout, such as {given.rstrip(':')}:idc:factor=2 ({', '.join(LAYOUTS)})")
    layout, *options = found[2].split(":")
    if layout not in LAYOUTS:
        raise UserError(f"{given}: layout {layout!r}, allowed: {', '.join(LAYOUTS)}{nearest(layout, LAYOUTS)}")
    values: dict[str, Any] = {}
    for option in options:
        name, equals, text = option.partition("=")
        if name not in OPTIONS or not equals:
            raise UserError(f"{given}: option {option!r}, allowed: factor=N, mean=A/B/C and std=A/B/C")
        try:
            values[name] = int(text) if name == "factor" else tuple(float(part) for part in text.split("/"))
        except ValueError:
            raise UserError(f"{given}: {option!r} is no number; write factor=2, or mean=0.5/0.5/0.5") from None
    std, numbers = values.get("std", ()), (*values.get("mean", ()), *values.get("std", ()))
    if not 1 <= values.get("factor", 1) <= 16 or any(one <= 0 for one in std) or not all(map(math.isfinite, numbers)):
        raise UserError(f"{given}: factor is an integer from 1 to 16, mean is finite, std is finite and above 0")
    return PeerFile(path=storage.absolute(found[1]), layout=layout, **values)


def read(
    file: PeerFile,
    *,
    shape: tuple[int, int, int],
    classes: int,
    moments: tuple[Sequence[float], Sequence[float]] | None,
) -> PeerSet:
    """The file as training images.

    Args:
        file: which, and its layout.
        shape: channels, height, width of the data that it is compared on.
        classes: of that data.
        moments: mean and std: what images in [0, 1] are normalised with, and what a normalised file is taken to be
            normalised with where it is not said; its images are left as they are, and the test images follow them. None
            where nothing is known of a normalised file: it must be said.

    Raises:
        UserError: not readable, of another layout, shape or number of classes.
    """
    images, labels, notes = _content(file, classes)
    if images.ndim != 4 or tuple(images.shape[1:]) != tuple(shape):
        raise UserError(f"{file.path}: holds images of shape {list(images.shape[1:])}, the data has {list(shape)}")
    if len(labels) != len(images):
        raise UserError(f"{file.path}: holds {len(images)} images and {len(labels)} labels")
    if len(images) == 0 or int(labels.min()) < 0 or int(labels.max()) >= classes:
        raise UserError(f"{file.path}: its labels are not those of {classes} classes, 0 to {classes - 1}")
    if not bool(images.isfinite().all()):
        raise UserError(f"{file.path}: holds pixels that are not finite")
    mean, std = _moments(file, moments)
    if len(mean) != shape[0] or len(std) != shape[0]:
        raise UserError(f"{file.path}: mean and std need a number for each of {shape[0]} channels")
    if file.layout not in NORMALISED:
        images, clamped = _within_bounds(file, images)
        notes += clamped
        images = standardise(decode(images[:, None], file.factor).flatten(0, 1), mean, std)
    elif file.factor != 1:
        images = decode(standardise_back(images, mean, std)[:, None], file.factor).flatten(0, 1)
        images = standardise(images, mean, std)
    if file.layout in NORMALISED and not (file.mean and file.std):
        notes.append(f"taken to be normalised with mean {_listed(mean)} and std {_listed(std)}")
    stored, repeats = len(labels), len(images) // len(labels)
    return PeerSet(
        images=images,
        labels=labels.repeat_interleave(repeats),
        mean=mean,
        std=std,
        stored=stored,
        note="; ".join(notes),
    )


def _moments(
    file: PeerFile, moments: tuple[Sequence[float], Sequence[float]] | None
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if moments is None and not (file.mean and file.std):
        raise UserError(
            f"{file.path}: layout {file.layout} is normalised, and with what is not known for this data; add :mean=A/B/C:std=A/B/C"
        )
    known = moments or ((), ())
    return tuple(file.mean or known[0]), tuple(file.std or known[1])


def _within_bounds(file: PeerFile, images: Tensor) -> tuple[Tensor, list[str]]:
    """Pixels in [0, 1], and what was done to them."""
    outside = float(((images < 0) | (images > 1)).float().mean())
    if not outside:
        return images, []
    lowest, highest = float(images.min()), float(images.max())
    if lowest < -FARTHEST or highest > 1 + FARTHEST:
        raise UserError(
            f"{file.path}: layout {file.layout} has pixels from 0 to 1, these reach from {lowest:.2g} to {highest:.2g}; if they "
            f"are normalised, name it {file.path}:dc or :mtt"
        )
    return images.clamp(0, 1), [
        f"{outside:.2%} of the pixels were outside 0 to 1 ({lowest:.3g} to {highest:.3g}), clamped"
    ]


def _listed(numbers: Sequence[float]) -> str:
    return "/".join(f"{number:.4g}" for number in numbers)


def standardise_back(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Normalised images in [0, 1] again."""
    return images * images.new_tensor(std).view(-1, 1, 1) + images.new_tensor(mean).view(-1, 1, 1)


def _content(file: PeerFile, classes: int) -> tuple[Tensor, Tensor, list[str]]:
    """Images, labels and what a person should know."""
    held = _load(file.path)
    if file.layout in ("idc", "ncfm"):
        pair = held
    elif file.layout == "dc":
        sets = held.get("data") if isinstance(held, dict) else None
        pair = sets[-1] if isinstance(sets, list) and sets else None
    else:
        pair = [held, _load(_labels_beside(file.path))]
    pair = list(pair) if isinstance(pair, list | tuple) else []
    if len(pair) < 2 or not isinstance(pair[0], Tensor):
        raise UserError(
            f"{file.path}: is not of layout {file.layout} ({type(held).__name__}); allowed: {', '.join(LAYOUTS)}"
        )
    try:
        images, labels = pair[0].detach().to_dense().float(), torch.as_tensor(pair[1]).to_dense()
    except (RuntimeError, ValueError, TypeError):
        raise UserError(f"{file.path}: its labels are no numbers ({type(pair[1]).__name__})") from None
    if labels.ndim == 2 and labels.shape[1] == classes > 1:
        return images, labels.argmax(1), ["hard labels: the largest of each soft one"]
    if labels.ndim > 1 and labels.numel() != len(labels):
        raise UserError(
            f"{file.path}: its labels have shape {list(labels.shape)}; allowed: [n], [n, 1] or [n, {classes}]"
        )
    return images, labels.flatten().long(), []


def _labels_beside(path: str) -> str:
    folder, _, name = path.rpartition("/")
    beside = name.replace("images", "labels")
    if beside == name:
        raise UserError(f"{path}: layout mtt is a file images*.pt with labels*.pt beside it; rename it so")
    return storage.join(folder, beside)


def _load(path: str) -> Any:
    try:
        data = storage.read_bytes(path)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise UserError(f"{path}: does not exist or is no file") from None
    try:
        # Accuracies in files of DC and DSA are numpy scalars; these names hold no code either.
        with torch.serialization.safe_globals(_numpy_scalars()), warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", UserWarning
            )  # about the pickle protocol of a file that may be no tensor file
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # a file of another kind, or a damaged one, makes torch raise almost anything
        reason = listed(str(error).strip().splitlines()[:1])
        raise UserError(f"{path}: cannot be read as a file of torch tensors ({reason})") from None


def _numpy_scalars() -> list[Any]:
    scalar = np.float64(0).__reduce__()[0]
    kinds = [type(np.dtype(kind)) for kind in (np.float64, np.float32, np.int64)]
    return [(scalar, "numpy.core.multiarray.scalar"), (scalar, "numpy._core.multiarray.scalar"), np.dtype, *kinds]
