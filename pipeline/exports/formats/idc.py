"""``idc``: data.pt as IDC, M3D, DANCE and NCFM read it, ``[images, labels]``: stored images in [0, 1], lossless."""

from pipeline import storage
from pipeline.exports.export_format import ExportFormat, Outgoing
from pipeline.exports.incoming import Incoming, Known
from pipeline.exports.tensor_files import file_in, read_peer
from pipeline.formats.peers import idc

FILE = "data.pt"


def write(folder: str, outgoing: Outgoing) -> None:
    """Writes data.pt."""
    idc.write(storage.join(folder, FILE), outgoing.pixels(), outgoing.images.labels)


def read(path: str, known: Known) -> Incoming:
    """Reads a file, or data.pt in a folder."""
    return read_peer(file_in(path, FILE), "idc", known)


FORMAT = ExportFormat(write=write, read=read, pixels="float32", views="stored")
