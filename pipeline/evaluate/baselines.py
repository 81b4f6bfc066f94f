"""Baselines that select or average real images: herding, k-center and the class mean. No Ray here.

    OUT/baselines/NAME.json    the selected rows of every class, and what determines them

herding: greedily the image that brings the mean feature of the selection nearest to the mean feature of the class
(Welling, 2009; Rebuffi et al., iCaRL, 2017). k_center: the image nearest to the mean, then always the one farthest from
the selection (Sener and Savarese, 2018). Both use the features of a network that is trained on the same images.
class_mean: the mean image of the class, repeated so that an epoch has as many images as with the other sets.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from m3d import standardise
from m3d.backend.precision import encoding, resolve
from m3d.encoders import Network
from m3d.pulse import beat
from m3d.shapes import Float, Int, UInt8
from pipeline import storage
from pipeline.config.run_config import RunConfig
from pipeline.data.prepared_dataset import PreparedDataset
from pipeline.errors import UserError
from pipeline.evaluate import feature_network
from pipeline.formats.run_folder import RunFolder
from pipeline.storage.documents import Document, read_document, write_compact_document

SELECTED = ("herding", "k_center")
"""Sets whose images are selected by the features of a trained network."""
BLOCK_PIXELS = 256 * 32 * 32
"""Pixels of images that go through the feature network at once."""


class Selection(Document):
    """baselines/NAME.json."""

    network: str
    """Fingerprint of the feature network."""
    images_per_class: int
    set: str
    rows: list[list[int]]
    """Rows of the training images of every class, in the order of selection."""


def selected_rows(
    name: str,
    config: RunConfig,
    folder: RunFolder,
    dataset: PreparedDataset,
    device: torch.device | str = "cpu",
) -> list[Tensor]:
    """Selected rows of every class's training images, in the order of selection; stored for the next call.

    Args:
        name: herding or k_center.
        config: configuration of the run, with ``images_per_class``.
        folder: folder of the run.
        dataset: the real images.
        device: device of the feature network.
    """
    path = storage.join(folder.baselines, f"{name}.json")
    network, count = feature_network.fingerprint(config, dataset), config.condense.images_per_class
    stored = _stored_selection(path)
    if stored and (stored["network"], stored["images_per_class"], stored["set"]) == (network, count, name):
        return [torch.tensor(rows) for rows in stored["rows"]]
    select = {"herding": herding, "k_center": k_center}[name]
    trained = feature_network.trained(config, folder, dataset, device)
    rows = []
    for entry in dataset.classes:
        features = features_of(trained, dataset.train(entry["label"]), *dataset.moments)
        rows.append(select(features, count))
    selection: Selection = {
        "network": network,
        "images_per_class": count,
        "set": name,
        "rows": [selected.tolist() for selected in rows],
    }
    write_compact_document(path, selection, end="\n")
    return rows


def _stored_selection(path: str) -> Selection | None:
    """The selection in a file, or None if there is none or it is damaged: it is made again."""
    try:
        return read_document(Selection, path)
    except (FileNotFoundError, UserError):
        return None


@torch.no_grad()
def features_of(
    network: Network, images: UInt8[Tensor, "B C H W"], mean: tuple[float, ...], std: tuple[float, ...]
) -> Float[Tensor, "B D"]:
    """Features of stored images, float32 on the CPU, computed a block at a time on the network's device.

    Args:
        network: a trained network in evaluation mode.
        images: stored images, 0 to 255.
        mean, std: moments that the network was trained with, per channel.
    """
    device = next(network.parameters()).device
    block = max(1, BLOCK_PIXELS // images.shape[-1] ** 2)
    precision = resolve("auto", device)
    parts = []
    for part in images.split(block):
        with encoding(precision, device):
            features = network.features(standardise(part.to(device).float() / 255, mean, std))
        parts.append(features.float().cpu())
        beat()
    return torch.cat(parts)


def herding(features: Float[Tensor, "B D"], count: int) -> Int[Tensor, " S"]:
    """Rows, each once, whose running mean is nearest to the mean of all rows after every step."""
    mean, total = features.mean(0), torch.zeros(features.shape[1])
    free, rows = torch.ones(len(features), dtype=torch.bool), []
    for number in range(1, count + 1):
        distance = ((total + features) / number - mean).square().sum(1)
        row = int(distance.masked_fill(~free, torch.inf).argmin())
        beat()
        rows.append(row)
        free[row] = False
        total = total + features[row]
    return torch.tensor(rows)


def k_center(features: Float[Tensor, "B D"], count: int) -> Int[Tensor, " S"]:
    """The row nearest to the mean, then always the row that is farthest from its nearest selected row."""
    rows = [int((features - features.mean(0)).square().sum(1).argmin())]
    nearest = torch.full((len(features),), torch.inf)
    while len(rows) < count:
        nearest = torch.minimum(nearest, (features - features[rows[-1]]).square().sum(1))
        beat()
        nearest[rows] = -1  # never again, even if all the others lie at the same place
        rows.append(int(nearest.argmax()))
    return torch.tensor(rows)


def real_images(
    config: RunConfig, dataset: PreparedDataset, pick: Callable[[int, Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """Normalised images and labels of a set of real images.

    Args:
        config: configuration of the run, with ``images_per_class``.
        dataset: the real images.
        pick: returns the images of a class, in [0, 255], from its label and all its stored images.

    Raises:
        UserError: a class has too few images.
    """
    mean, std = dataset.moments
    parts, count = [], config.condense.images_per_class
    for entry in dataset.classes:
        images = dataset.train(entry["label"])
        if len(images) < count:
            raise UserError(
                f"class {entry['name']!r} has {len(images)} training images, needed {count} for baselines with as many "
                "images as the condensed set; choose other sets with --sets, or data with more images"
            )
        parts.append(pick(entry["label"], images))
    labels = torch.arange(len(parts)).repeat_interleave(count)
    return standardise(torch.cat(parts).float() / 255, mean, std), labels


def class_mean(images: UInt8[Tensor, "B C H W"], count: int) -> Float[Tensor, "S C H W"]:
    """The mean image, repeated ``count`` times, 0 to 255."""
    # Sums of bytes are exact in 64 bits, so the mean does not depend on the order of the images.
    mean = images.sum(0, dtype=torch.int64).double() / len(images)
    return mean.float().expand(count, *images.shape[1:])
