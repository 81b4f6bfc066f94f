"""``mtt``: files of MTT, normalised images in one file and their labels in another beside it.

The name of the file of images contains ``images``, such as ``images_best.pt``; that of the labels has ``labels`` in its
place. Sets that MTT created with ZCA whitening cannot be compared.
"""

from torch import Tensor

from pipeline import storage
from pipeline.config.run_config import Data
from pipeline.errors import UserError
from pipeline.formats.peers import moments
from pipeline.formats.peers.peer_format import Moments, PeerFormat, Stored, pair
from pipeline.formats.peers.tensor_files import load, save


def read(path: str) -> Stored:
    """Returns the images of a file and the labels beside it. Raises LayoutError or UserError if they are not of this format."""
    images = load(path)
    return pair(images, [images, load(labels_beside(path))])


def write(path: str, images: Tensor, labels: Tensor) -> None:
    """Writes normalised images [n, C, H, W], and labels [n] beside them."""
    save(path, images)
    save(labels_beside(path), labels)


def labels_beside(path: str) -> str:
    """Returns the path of the labels for a file of images. Raises UserError if its name does not contain ``images``."""
    folder, _, name = path.rpartition("/")
    beside = name.replace("images", "labels")
    if beside == name:
        raise UserError(f"{path}: layout mtt is a file images*.pt with labels*.pt beside it; rename both files")
    return storage.join(folder, beside)


def published_moments(data: Data) -> Moments | None:
    """Returns the moments in the code of MTT, or None if it has none for the data set."""
    if data.name == "CIFAR100" and not data.subset:
        return moments.CIFAR10  # MTT's code normalises CIFAR-100 with the moments of CIFAR-10
    return moments.IMAGENET if data.subset else moments.BY_NAME.get(data.name or "")


FORMAT = PeerFormat(read=read, write=write, moments=published_moments)
