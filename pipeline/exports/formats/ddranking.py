"""``ddranking``: images.pt as DD-Ranking reads it: normalised views, class by class, the labels by their order.

Its evaluator takes ``image_tensor=torch.load("images.pt")`` and, without ``syn_lr``, tries five learning rates.
"""

import torch

from pipeline import storage
from pipeline.errors import UserError
from pipeline.exports.export_format import ExportFormat, Outgoing
from pipeline.exports.incoming import Incoming, Known
from pipeline.exports.tensor_files import file_in
from pipeline.formats.peers import mtt, tensor_files
from pipeline.formats.peers.reader import unnormalised

FILE = "images.pt"


def write(folder: str, outgoing: Outgoing) -> None:
    """Writes images.pt. Grey images get three equal channels, as DD-Ranking has no others."""
    images = outgoing.pixels()
    channels = outgoing.images.shape[0]
    tensor_files.save(
        storage.join(folder, FILE), images if channels == 3 else images.expand(-1, 3, -1, -1).contiguous()
    )


def read(path: str, known: Known) -> Incoming:
    """Reads a file, or images.pt in a folder. The number of classes and the moments must be known."""
    path = file_in(path, FILE)
    if known.classes is None or known.moments is None:
        raise UserError(
            f"{path}: says neither how many classes it has nor what it is normalised with; add --like SET, a set of the same data"
        )
    images = tensor_files.load(path)
    if not isinstance(images, torch.Tensor) or images.ndim != 4 or not images.is_floating_point():
        raise UserError(f"{path}: is not a tensor of images [n, C, H, W] of floating-point numbers")
    if not len(images) or len(images) % known.classes:
        raise UserError(
            f"{path}: holds {len(images)} images, which are not the same number of each of {known.classes} classes"
        )
    per_class = len(images) // known.classes
    moments, channels = known.moments, len(known.moments[0])
    if channels == 1 and images.shape[1] == 3:
        images = images[:, :1]
    if images.shape[1] != channels:
        raise UserError(f"{path}: holds images of {images.shape[1]} channels, their moments are of {channels}")
    pixels, notes = unnormalised(images, moments)
    labels = torch.arange(known.classes).repeat_interleave(per_class)
    return Incoming(images=pixels, labels=labels, notes=tuple(notes))


FORMAT = ExportFormat(write=write, read=read, pixels="normalised", moments=mtt.published_moments)
