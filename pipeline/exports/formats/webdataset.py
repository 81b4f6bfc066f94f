"""``webdataset``: shard-000000.tar with ``KEY.png``, ``KEY.cls`` and ``KEY.json`` for every image; PNG, 8 bits."""

import io
import json
import tarfile

from pipeline import storage
from pipeline.config.run_config import Data
from pipeline.exports.encoded_images import numbered, read_encoded
from pipeline.exports.export_format import ExportFormat, Outgoing
from pipeline.exports.incoming import Incoming, Known
from pipeline.formats.png import eight_bit, png

SHARD_BYTES = 2**29
"""Bytes of pixels in a tar file, before they are encoded."""


def write(folder: str, outgoing: Outgoing) -> None:
    """Writes tar files; their members have no time and no owner, so the same set gives the same bytes."""
    images = outgoing.images
    rows = max(1, SHARD_BYTES // max(1, images.images[0].numel()))
    for number, start in enumerate(range(0, len(images.images), rows)):
        shard = io.BytesIO()
        with tarfile.open(fileobj=shard, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for position in range(start, min(start + rows, len(images.images))):
                entry = images.classes[position // images.per_class]
                key = numbered(position, images.per_class)
                about = {"label": entry["label"], "class_name": entry["name"], "wnid": entry["wnid"]}
                _add(tar, f"{key}.png", png(eight_bit(images.images[position])))
                _add(tar, f"{key}.cls", str(entry["label"]).encode())
                _add(tar, f"{key}.json", json.dumps(about).encode())
        storage.write_bytes(storage.join(folder, f"shard-{number:06d}.tar"), shard.getbuffer())


def read(path: str, known: Known) -> Incoming:
    """Reads a folder of tar files."""
    return read_encoded(Data(source="webdataset", path=path))


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


FORMAT = ExportFormat(write=write, read=read, pixels="png")
