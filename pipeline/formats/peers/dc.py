"""``dc``: files of DC, DSA and DM, ``{"data": [[images, labels], ...]}``; the last pair counts, its images are normalised."""

from collections.abc import Mapping, Sequence

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


def write(path: str, images: Tensor, labels: Tensor, accuracies: Mapping[str, Sequence[float]] | None = None) -> None:
    """Writes normalised images [n, C, H, W] and labels [n] as the only pair.

    Args:
        path: local path or URL.
        images: of all classes.
        labels: int64.
        accuracies: fractions by the network that was trained, which the published readers expect. Defaults to none.
    """
    by_network = {} if accuracies is None else {"accs_all_exps": {k: list(v) for k, v in accuracies.items()}}
    save(path, {"data": [[images, labels]], **by_network})


def published_moments(data: Data) -> Moments | None:
    """Returns the moments in the code of DC, which DSA and DM share, or None if it has none for the data set."""
    return moments.IMAGENET if data.subset else moments.BY_NAME.get(data.name or "")


FORMAT = PeerFormat(read=read, write=write, moments=published_moments)
