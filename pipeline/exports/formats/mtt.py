"""``mtt``: images_best.pt and labels_best.pt as MTT and DATM read them: normalised images."""

from pipeline import storage
from pipeline.exports.export_format import ExportFormat, Outgoing
from pipeline.exports.incoming import Incoming, Known
from pipeline.exports.tensor_files import file_in, read_peer
from pipeline.formats.peers import mtt

FILE = "images_best.pt"


def write(folder: str, outgoing: Outgoing) -> None:
    """Writes both files."""
    mtt.write(storage.join(folder, FILE), outgoing.pixels(), outgoing.images.labels)


def read(path: str, known: Known) -> Incoming:
    """Reads a file of images with the labels beside it, or images_best.pt in a folder."""
    return read_peer(file_in(path, FILE), "mtt", known)


FORMAT = ExportFormat(write=write, read=read, pixels="normalised", moments=mtt.published_moments)
