"""Images in files, tars and Parquet, and how sources read them."""

import io
import struct
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from pipeline.config.run_config import Data
from pipeline.data.decode_image import BadImageError, channels_of, pixels
from pipeline.data.sources import open_source
from tests.pipeline.support import source_formats
from tests.pipeline.support.images import encoded, picture, write_folder
from tests.pipeline.support.parquet import STRUCT, hub

MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F")
OPTIONS: dict[str, tuple[dict[str, Any], ...]] = {
    "TIFF": ({}, {"compression": "tiff_lzw"}, {"compression": "tiff_adobe_deflate"}, {"compression": "jpeg"}),
    "JPEG": (
        {},
        {"progressive": True},
        {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"},
    ),
    "PNG": ({}, {"interlace": True}),
}
"""Ways to save a format, beside the usual one."""


def write_images(folder: Path) -> None:
    """An image in every mode of every format that the installed Pillow writes, and moving ones."""
    Image.init()
    for kind in sorted(set(Image.SAVE) - {"PDF", "EPS", "HDF5", "GRIB", "BUFR", "WMF", "MPO"}):
        for mode in MODES:
            for number, options in enumerate(OPTIONS.get(kind, ({},))):
                try:
                    content = encoded(Image.fromarray(picture(3, 20, 24)).convert(mode), kind, **options)
                except Exception:  # a mode that the format does not have
                    continue
                _put(folder / f"{kind}-{mode.replace(';', '')}-{number}" / "image", content)
    frames = [Image.fromarray(picture(number, 16, 16)) for number in range(3)]
    for kind in ("GIF", "PNG", "WEBP", "TIFF"):
        buffer = io.BytesIO()
        frames[0].save(buffer, kind, save_all=True, append_images=frames[1:])
        _put(folder / f"{kind}-moving" / "image", buffer.getvalue())
    # Widths and heights of PNGs that would take terabytes.
    for name, side in (("wide", 2**31 - 1), ("square", 60_000), ("large", 9_000)):
        content = bytearray(encoded(Image.fromarray(picture(3, 16, 16, 1))))
        content[16:24] = struct.pack(">II", side, 1 if name == "wide" else side)
        content[29:33] = _crc(bytes(content[12:29]))
        _put(folder / f"PNG-{name}" / "image", bytes(content))


def read_image(folder: Path) -> None:
    """Decodes an image as ``prepare`` does."""
    content = (folder / "image").read_bytes()
    channels = channels_of(content)
    assert pixels(content, 16, channels).shape == (channels, 16, 16)
    assert pixels(content, 16, 4 - channels).dtype == np.uint8


def write_tars(folder: Path) -> None:
    """Tars of samples, with the class in a text, in JSON and in the name of a folder, in every format of tars."""
    images = write_folder(folder.parent / "images", {"train": 4, "test": 2}, size=8)
    for style in ("cls", "json", "folder"):
        source_formats.write_tars(images, folder / style, style=style, files=1)
    for name, kind in (("gnu", tarfile.GNU_FORMAT), ("pax", tarfile.PAX_FORMAT), ("ustar", tarfile.USTAR_FORMAT)):
        (folder / name).mkdir()
        with tarfile.open(folder / name / "train.tar", "w", format=kind) as tar:
            for number in range(3):
                key = f"{number}" + "x" * 80
                _add(tar, f"ant/{key}/{key}.png", encoded(picture(number, 8, 8)), pax={"comment": "é" * 50})
                _add(tar, f"ant/{key}/{key}.json", b'{"label": 3}')


def read_tars(folder: Path) -> None:
    """Finds and reads the images of tars."""
    _read_source(Data(source="webdataset", path=str(folder), image_size=8))


def write_parquet(folder: Path) -> None:
    """Parquet files in several layouts, types and encodings."""
    images = write_folder(folder.parent / "images", {"train": 4, "test": 2}, size=8)
    source_formats.write_parquet(images, folder / "hub")
    source_formats.write_partitions(images, folder / "partitions")
    cells = [{"bytes": encoded(picture(number, 8, 8)), "path": f"{number}.png"} for number in range(6)]
    structs, plain = pa.array(cells, STRUCT), pa.array([cell["bytes"] for cell in cells], pa.binary())
    labels: dict[str, Any] = {
        "integers": [0, 1, 2, 0, 1, 2],
        "texts": list("abcabc"),
        "dictionary": pa.array(list("abcabc")).dictionary_encode(),
        "lists": [[0], [1], [2], [0], [1], [2]],
        "doubles": [0.0, 1.0, 2.0, 0.0, 1.0, 2.0],
        "empty": [None, 1, 2, None, 1, 2],
        "huge": pa.array([2**63, 1, 2, 0, 1, 2], pa.uint64()),
    }
    for name, values in labels.items():
        column = structs if len(name) % 2 else plain
        table = pa.table({"image": column, "label": values}).replace_schema_metadata(
            hub() if name == "integers" else None
        )
        (folder / name).mkdir()
        options: dict[str, Any] = {
            "compression": "zstd" if len(name) % 3 else "none",
            "use_dictionary": name != "texts",
        }
        pq.write_table(table, folder / name / "train.parquet", row_group_size=4, **options)


def read_parquet(folder: Path) -> None:
    """Finds and reads the images of Parquet files."""
    _read_source(Data(source="parquet", path=str(folder), image_size=8))


def write_mnist(folder: Path) -> None:
    """MNIST's own files, and those of old versions of torchvision."""
    import torch

    raw = folder / "raw" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    splits = []
    for prefix, count in (("train", 10), ("t10k", 10)):
        shown = np.stack([picture(number, 28, 28, 1) for number in range(count)])
        labels = np.arange(count, dtype=np.uint8)
        for name, array in (("images-idx3", shown), ("labels-idx1", labels)):
            head = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
            (raw / f"{prefix}-{name}-ubyte").write_bytes(head + array.tobytes())
        splits.append((torch.from_numpy(shown), torch.from_numpy(labels).long()))
    old = folder / "old" / "MNIST" / "processed"
    old.mkdir(parents=True)
    for name, split in zip(("training.pt", "test.pt"), splits, strict=True):
        torch.save(split, old / name)


def read_mnist(folder: Path) -> None:
    """Reads MNIST by torchvision."""
    from pipeline.data.sources.torchvision_sets import _load

    _load.cache_clear()
    _read_source(Data(source="torchvision", name="MNIST", path=str(folder), image_size=28))


def _read_source(data: Data) -> None:
    source = open_source(data)
    index = source.index()
    labels = range(min(len(index.class_names), 5))
    for split in index.counts:
        for item in source.read(split, labels):
            try:
                pixels(item.content, 8, 3)
            except BadImageError:
                continue


def _put(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _add(tar: tarfile.TarFile, name: str, content: bytes, pax: dict[str, str] | None = None) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.pax_headers = len(content), pax or {}
    tar.addfile(member, io.BytesIO(content))


def _crc(content: bytes) -> bytes:
    import zlib

    return struct.pack(">I", zlib.crc32(content))
