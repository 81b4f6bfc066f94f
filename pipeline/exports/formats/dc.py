"""``dc``: res_M3D_DATA_NETWORK_Nipc.pt as DC, DSA, DM and DC-Bench read it: normalised images, and accuracies by network."""

import re

from pipeline import storage
from pipeline.exports.export_format import ExportFormat, Outgoing
from pipeline.exports.incoming import Incoming, Known
from pipeline.exports.tensor_files import file_in, read_peer
from pipeline.formats.peers import dc

METHOD = "M3D"


def write(folder: str, outgoing: Outgoing) -> None:
    """Writes the file. Accuracies are Python's floats: numpy's make ``torch.load`` fail from torch 2.6 on."""
    images = outgoing.images
    words = (METHOD, outgoing.name, outgoing.encoder or "ConvNet", f"{images.per_class}ipc")
    name = "_".join(re.sub(r"[^\w.-]", "-", word)[:40] for word in ("res", *words))
    dc.write(storage.join(folder, f"{name}.pt"), outgoing.pixels(), images.labels, outgoing.accuracies)


def read(path: str, known: Known) -> Incoming:
    """Reads a file, or the only res_*.pt in a folder."""
    return read_peer(file_in(path, "res_*.pt"), "dc", known)


FORMAT = ExportFormat(write=write, read=read, pixels="normalised", moments=dc.published_moments)
