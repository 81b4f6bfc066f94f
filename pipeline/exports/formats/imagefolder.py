"""``imagefolder``: PATH/CLASS/*.png as torchvision's ImageFolder, timm and most training code read it; PNG, 8 bits.

Such readers number classes by the order of their folders. The folders have the names of the classes if these are in
that order; else the label comes first, as in ``00003 cat``.
"""

import re
from collections.abc import Sequence

from pipeline import storage
from pipeline.config.run_config import Data
from pipeline.exports.encoded_images import numbered, read_encoded
from pipeline.exports.export_format import ExportFormat, Outgoing
from pipeline.exports.incoming import Incoming, Known
from pipeline.formats.png import eight_bit, png

LONGEST = 200
"""Most bytes of a class name in a folder's name; file systems allow 255."""
_ODD = re.compile(r"[^\w ()&+,.'-]")
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d|train\w*|test\w*|val\w*)(\..*)?")
"""Names that Windows keeps for itself, and those that readers take for a split."""


def write(folder: str, outgoing: Outgoing) -> None:
    """Writes a folder of PNG files per class."""
    write_folders(folder, outgoing, folders_of(outgoing.images.names))


def write_folders(folder: str, outgoing: Outgoing, folders: Sequence[str]) -> None:
    """Writes the images of every class into its folder, called ``class00000_id00000.png`` and so on."""
    images = outgoing.images
    for position, image in enumerate(images.images):
        name = f"{numbered(position, images.per_class)}.png"
        path = storage.join(folder, folders[position // images.per_class], name)
        storage.write_bytes(path, png(eight_bit(image)))


def folders_of(names: Sequence[str]) -> list[str]:
    """Returns a folder's name for every class, whose order as text is that of the labels."""
    safe = all(_is_safe(name) for name in names)
    if safe and list(names) == sorted(names) and len({name.casefold() for name in names}) == len(names):
        return list(names)
    return [f"{label:05d} {_cut(_ODD.sub('_', name))}".rstrip(" .") for label, name in enumerate(names)]


def read(path: str, known: Known) -> Incoming:
    """Reads a folder of class folders."""
    return read_encoded(Data(source="image_folder", path=path))


def _is_safe(name: str) -> bool:
    """Whether a class name can be the name of a folder on every system."""
    return (
        0 < len(name.encode(errors="replace")) <= LONGEST
        and not _ODD.search(name)
        and not _RESERVED.fullmatch(name)
        and not name.startswith(".")
        and name == name.strip(" .")
    )


def _cut(name: str) -> str:
    return name.encode(errors="replace")[:LONGEST].decode(errors="ignore")


FORMAT = ExportFormat(write=write, read=read, pixels="png")
