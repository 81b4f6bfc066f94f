"""``dc``: files of DC, DSA and DM, ``{"data": [[images, labels], ...]}``; the last pair counts, its images are normalised."""

from torch import Tensor

from pipeline.config.run_config import Data
from pipeline.formats.peers import moments
from pipeline.formats.peers.peer_format import Moments, PeerFormat, Stored, pair
from pipeline.formats.peers.tensor_files import load, save


def read(path: str) -> Stored:
    """Returns images and labels of the last pair of a file. Raises LayoutError or UserError if it is not of this format."""
    content = load(path)
    sets = content.get("data") if isinstance(content, dict) else None
    return pair(content, sets[-1] if isinstance(sets, list) and sets else None)


def write(path: str, images: Tensor, labels: Tensor) -> None:
    """Writes normalised images [n, C, H, W] and labels [n] as the only pair."""
    save(path, {"data": [[images, labels]]})


def published_moments(data: Data) -> Moments | None:
    """Returns the moments in the code of DC, which DSA and DM share, or None if it has none for the data set."""
    return moments.IMAGENET if data.subset else moments.BY_NAME.get(data.name or "")


FORMAT = PeerFormat(read=read, write=write, moments=published_moments)
