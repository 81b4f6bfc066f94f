"""``idc``: files of IDC, M3D and DANCE, ``[images, labels]``; stored images in [0, 1], ``factor`` x ``factor`` tiles each."""

from torch import Tensor

from pipeline.formats.peers.peer_format import PeerFormat, Stored, pair
from pipeline.formats.peers.tensor_files import load, save


def read(path: str) -> Stored:
    """Returns images and labels of a file. Raises LayoutError or UserError if it is not one of this format."""
    content = load(path)
    return pair(content, content)


def write(path: str, images: Tensor, labels: Tensor) -> None:
    """Writes stored images [n, C, H, W] in [0, 1] and labels [n]."""
    save(path, [images, labels])


FORMAT = PeerFormat(read=read, write=write)
