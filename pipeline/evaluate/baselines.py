"""Baselines that choose or average real images: herding, k-center and the class mean. No Ray here.

    OUT/baselines/NAME.json    the rows that were chosen of every class, and what they follow from

herding: greedily the image that brings the mean of the chosen features nearest to the class's mean feature (Welling,
2009; Rebuffi et al., iCaRL, 2017). k_center: the image nearest to the mean, then always the one farthest from all that
are chosen (Sener and Savarese, 2018). Both in the features of a network trained on the same images.
class_mean: the mean image of the class, repeated so that an epoch has as many images as the others.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from m3d import standardise
from m3d.backend.precision import encoding, resolve
from m3d.encoders import Network
from m3d.shapes import Float, Int, UInt8
from pipeline import storage
from pipeline.config.run_config import RunConfig
from pipeline.data.prepared_dataset import PreparedDataset
from pipeline.errors import UserError
from pipeline.evaluate import feature_network
from pipeline.storage.documents import read_document, write_compact_document

CHOSEN = ("herding", "k_center")
"""Sets that need a trained network."""
BLOCK_PIXELS = 256 * 32 * 32
"""Pixels of images that the feature network takes at once."""


def chosen_rows(
    name: str, config: RunConfig, out: str, cache: PreparedDataset, device: torch.device | str = "cpu"
) -> list[Tensor]:
    """Rows of every class's training images, ``images_per_class`` each, in the order chosen; kept for the next call."""
    path = storage.join(out, "baselines", f"{name}.json")
    told = {
        "network": feature_network.fingerprint(config, cache),
        "images_per_class": config.condense.images_per_class,
        "set": name,
    }
    try:
        held = read_document(dict, path)
        if {key: held.get(key) for key in told} == told:
            return [torch.tensor(rows) for rows in held["rows"]]
    except (FileNotFoundError, UserError):
        pass  # it is chosen anew
    network = feature_network.trained(config, out, cache, device)
    choose, rows = {"herding": herding, "k_center": k_center}[name], []
    for entry in cache.classes:
        features = features_of(network, cache.train(entry["label"]), *cache.moments)
        rows.append(choose(features, config.condense.images_per_class))
    write_compact_document(path, {**told, "rows": [one.tolist() for one in rows]}, end="\n")
    return rows


@torch.no_grad()
def features_of(
    network: Network, images: UInt8[Tensor, "B C H W"], mean: tuple[float, ...], std: tuple[float, ...]
) -> Float[Tensor, "B D"]:
    """Features of stored images, float32 on the CPU, a block at a time.

    Args:
        network: any trained one, in evaluation mode; its device is used.
        images: as they are stored, 0 to 255.
        mean, std: what the network was trained with.
    """
    device = next(network.parameters()).device
    block = max(1, BLOCK_PIXELS // images.shape[-1] ** 2)
    precision = resolve("auto", device)
    parts = []
    for part in images.split(block):
        with encoding(precision, device):
            features = network.features(standardise(part.to(device).float() / 255, mean, std))
        parts.append(features.float().cpu())
    return torch.cat(parts)


def herding(features: Float[Tensor, "B D"], count: int) -> Int[Tensor, " S"]:
    """Rows whose running mean stays nearest to the mean of all, one after another, each once."""
    mean, total = features.mean(0), torch.zeros(features.shape[1])
    free, rows = torch.ones(len(features), dtype=torch.bool), []
    for number in range(1, count + 1):
        distance = ((total + features) / number - mean).square().sum(1)
        row = int(distance.masked_fill(~free, torch.inf).argmin())
        rows.append(row)
        free[row] = False
        total = total + features[row]
    return torch.tensor(rows)


def k_center(features: Float[Tensor, "B D"], count: int) -> Int[Tensor, " S"]:
    """The row nearest to the mean, then always the one whose nearest chosen row is farthest."""
    rows = [int((features - features.mean(0)).square().sum(1).argmin())]
    nearest = torch.full((len(features),), torch.inf)
    while len(rows) < count:
        nearest = torch.minimum(nearest, (features - features[rows[-1]]).square().sum(1))
        nearest[rows] = -1  # never again, also where all the others lie at the same place
        rows.append(int(nearest.argmax()))
    return torch.tensor(rows)


def real_images(
    config: RunConfig, cache: PreparedDataset, pick: Callable[[int, Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """Normalised images and labels of a set that ``pick`` makes of a class's label and stored images, in [0, 255]."""
    mean, std = cache.moments
    parts, count = [], config.condense.images_per_class
    for entry in cache.classes:
        images = cache.train(entry["label"])
        if len(images) < count:
            raise UserError(
                f"class {entry['name']!r} has {len(images)} training images, needed {count} for the baselines of as many "
                "images as the condensed set; choose others with --sets, or data with more images"
            )
        parts.append(pick(entry["label"], images))
    labels = torch.arange(len(parts)).repeat_interleave(count)
    return standardise(torch.cat(parts).float() / 255, mean, std), labels


def class_mean(images: UInt8[Tensor, "B C H W"], count: int) -> Float[Tensor, "S C H W"]:
    """The mean image, ``count`` times, 0 to 255."""
    # Sums of bytes are exact in 64 bits, so the mean does not depend on the order of adding.
    mean = images.sum(0, dtype=torch.int64).double() / len(images)
    return mean.float().expand(count, *images.shape[1:])
