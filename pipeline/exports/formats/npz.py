"""``npz``: condensed.npz for NumPy, JAX and TensorFlow: stored images in [0, 1], labels, names and moments, lossless."""

import io
import math
import tokenize
import warnings
import zipfile
from typing import Any

import numpy as np
import torch

from pipeline import storage
from pipeline.errors import UserError, first_line
from pipeline.exports.export_format import ExportFormat, Outgoing
from pipeline.exports.incoming import Incoming, Known
from pipeline.exports.tensor_files import file_in

FILE = "condensed.npz"
NAME_LENGTH = 1000
"""Most characters of a class name."""
HEADER = 10_000
"""Most characters of the header of an array."""


def write(folder: str, outgoing: Outgoing) -> None:
    """Writes condensed.npz, which ``numpy.load`` reads without ``allow_pickle``."""
    images, buffer = outgoing.images, io.BytesIO()
    np.savez(
        buffer,
        images=outgoing.pixels().numpy(),
        labels=images.labels.numpy(),
        class_names=np.array(images.names, dtype=np.str_),
        mean=np.array(images.mean),
        std=np.array(images.std),
        factor=np.array(images.factor),
    )
    storage.write_bytes(storage.join(folder, FILE), buffer.getbuffer())


def read(path: str, known: Known) -> Incoming:
    """Reads a file, or condensed.npz in a folder. Only ``images`` and ``labels`` must be there."""
    path = file_in(path, FILE)
    try:
        arrays = _arrays(storage.read_bytes(path))
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise UserError(f"{path}: does not exist or is not a file") from None
    except (zipfile.BadZipFile, ValueError, EOFError, NotImplementedError, RecursionError, OverflowError) as error:
        raise UserError(
            f"{path}: is not a file of arrays as numpy.savez writes it ({first_line(error)[:200]})"
        ) from None
    images, labels = _required(arrays, "images", path), _required(arrays, "labels", path)
    if images.ndim != 4 or images.dtype.kind not in "fu" or labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise UserError(
            f"{path}: has images {images.dtype} {list(images.shape)} and labels {labels.dtype} {list(labels.shape)}; needed float32 or "
            "uint8 [n, C, H, W] and integers [n]"
        )
    if len(images) != len(labels):
        raise UserError(f"{path}: holds {len(images)} images and {len(labels)} labels")
    scaled = images.astype(np.float32) / (np.float32(255) if images.dtype == np.uint8 else np.float32(1))
    if scaled.size and not (scaled.min() >= 0 and scaled.max() <= 1):
        raise UserError(f"{path}: has pixels outside of 0 to 1; store images that are not normalised")
    return Incoming(
        images=torch.from_numpy(scaled),
        labels=torch.from_numpy(labels.astype(np.int64)),
        names=_names(arrays),
        factor=_factor(arrays),
        moments=_moments(arrays, images.shape[1]),
    )


def _arrays(data: bytes) -> dict[str, np.ndarray]:
    """The arrays of an archive, none larger than its bytes. Raises ValueError for compressed ones and for objects."""
    arrays = {}
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = archive.infolist()
        if any(entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1 for entry in entries):
            raise ValueError("it is compressed; save it with numpy.savez")
        if sum(entry.file_size for entry in entries) > len(data):
            raise ValueError("its members overlap")
        for entry in entries:
            if entry.filename.endswith(".npy"):
                arrays[entry.filename.removesuffix(".npy")] = _array(archive.read(entry))
    return arrays


def _array(data: bytes) -> np.ndarray:
    stream = io.BytesIO(data)
    version = np.lib.format.read_magic(stream)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"an array of the version {version}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # numpy warns about headers of Python 2
            shape, fortran, dtype = readers[version](stream, max_header_size=HEADER)
    except (SyntaxError, tokenize.TokenError, MemoryError):  # the header is parsed as Python
        raise ValueError("an array with a damaged header") from None
    count, start = math.prod(shape), stream.tell()
    if dtype.hasobject or dtype.kind not in "biufU" or any(side < 0 for side in shape):
        raise ValueError(f"an array of {dtype.kind!r}")
    if count * dtype.itemsize != len(data) - start:
        raise ValueError("an array whose header does not match its bytes")
    array = np.frombuffer(data, dtype, count, start) if count and dtype.itemsize else np.zeros(count, dtype)
    return array.reshape(shape, order="F" if fortran else "C")


def _required(arrays: dict[str, np.ndarray], name: str, path: str) -> np.ndarray:
    if name not in arrays:
        raise UserError(f"{path}: has no array {name!r}; needed: images and labels")
    return arrays[name]


def _names(arrays: dict[str, np.ndarray]) -> tuple[str, ...] | None:
    names = arrays.get("class_names")
    if names is None or names.ndim != 1 or names.dtype.kind != "U" or names.dtype.itemsize > 4 * NAME_LENGTH:
        return None
    return tuple(str(name) for name in names)


def _factor(arrays: dict[str, np.ndarray]) -> int | None:
    factor = arrays.get("factor")
    whole = factor is not None and factor.size == 1 and factor.dtype.kind in "iu"
    return int(factor.item()) if factor is not None and whole else None


def _moments(arrays: dict[str, np.ndarray], channels: int) -> Any:
    mean, std = arrays.get("mean"), arrays.get("std")
    if mean is None or std is None or mean.shape != (channels,) or std.shape != (channels,):
        return None
    if mean.dtype.kind != "f" or std.dtype.kind != "f" or not np.isfinite([mean, std]).all() or (std <= 0).any():
        return None
    return tuple(mean.tolist()), tuple(std.tolist())


FORMAT = ExportFormat(write=write, read=read, pixels="float32", views="stored")
