"""A picture of real and condensed images in the features of a network, by their two main components.

The network is that in which herding and k-center select, if the run has stored it: it was trained on the real images.
Otherwise it is one encoder of the run with random weights, drawn for this picture alone. Both take seconds at most,
since the number of images is bounded by the cost of the network.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from m3d import Condensed, standardise
from m3d.backend.cost import forward_flops
from m3d.config import Encoder
from m3d.encoders import Network, build
from m3d.seeding import generator
from pipeline.config.run_config import RunConfig
from pipeline.data.prepared_dataset import PreparedDataset
from pipeline.evaluate.feature_network import stored_network
from pipeline.formats.run_folder import RunFolder
from pipeline.observability.pages import drawable

FLOPS = 2e12
"""Most floating-point operations of the picture: about ten seconds on two cores."""
IMAGES = 1500
"""Most images of either kind."""
BYTES = 2**28
"""Most bytes of the images of either kind, as float32."""
BLOCK = 64
"""Images of one pass."""
WIDTH, HEIGHT, MARGIN = 480, 340, 14


@dataclass(frozen=True, kw_only=True)
class Point:
    """An image in the picture."""

    x: float
    y: float


@dataclass(frozen=True, kw_only=True)
class Cloud:
    """The images of one class."""

    name: str
    real: Sequence[Point]
    ours: Sequence[Point]


@dataclass(frozen=True, kw_only=True)
class FeatureSpace:
    """The picture."""

    clouds: Sequence[Cloud]
    shares: tuple[float, float]
    """Percentage of the variance of the real images along either axis."""
    network: str
    """The network in words."""
    real: int
    ours: int
    width: int = WIDTH
    height: int = HEIGHT


@torch.no_grad()
def feature_space(
    config: RunConfig, folder: RunFolder, dataset: PreparedDataset, stored: Condensed, real: dict[int, Tensor]
) -> FeatureSpace | None:
    """Returns the picture, or None if there are too few real images or classes without any.

    Args:
        config: of the run.
        folder: of the run.
        dataset: its class shards.
        stored: the condensed set.
        real: some real images of every class, uint8, by label.
    """
    classes, channels, side = len(stored.class_ids), stored.images_KSCHW.shape[2], stored.images_KSCHW.shape[-1]
    cost = forward_flops(Encoder(name=config.encoder.name, width=config.encoder.width), channels, side)
    most = max(4, min(IMAGES, int(FLOPS / max(1, cost) / 2), BYTES // (4 * channels * side * side)))
    labels = [label for label in range(classes) if label in real][:most]
    each = max(1, most // max(1, len(labels)))
    kept = -(-each // stored.factor**2)
    ours = {label: _views(stored, label, kept)[:each] for label in labels}
    theirs = {label: real[label][:each].float() / 255 for label in labels}
    if sum(map(len, theirs.values())) < 3:
        return None
    network, described = _network(config, folder, dataset, side)
    real_FD, ours_FD = (_features(network, torch.cat([*part.values()]), stored) for part in (theirs, ours))
    if not (real_FD.isfinite().all() and ours_FD.isfinite().all()):
        return None
    axes_2D, centre, shares = _main_components(real_FD)
    placed = _placed(torch.cat([real_FD - centre, ours_FD - centre]) @ axes_2D.T)
    points = [Point(x=round(x, 1), y=round(y, 1)) for x, y in placed.tolist()]
    real_points, ours_points = iter(points[: len(real_FD)]), iter(points[len(real_FD) :])
    clouds = [
        Cloud(
            name=drawable(dataset.classes[label]["name"], 60),
            real=[next(real_points) for _ in theirs[label]],
            ours=[next(ours_points) for _ in ours[label]],
        )
        for label in labels
    ]
    return FeatureSpace(clouds=clouds, shares=shares, network=described, real=len(real_FD), ours=len(ours_FD))


def _views(stored: Condensed, label: int, images: int) -> Tensor:
    """The views of the first images of a class."""
    return replace(stored, images_KSCHW=stored.images_KSCHW[label : label + 1, :images], class_ids=(label,)).views(
        normalise=False
    )[0]


def _network(config: RunConfig, folder: RunFolder, dataset: PreparedDataset, side: int) -> tuple[Network, str]:
    stored, name = stored_network(config, folder, dataset), config.encoder.name
    if stored is not None:
        return stored.eval(), f"a {name} that was trained on the real images (feature-network.safetensors)"
    network = build(
        name,
        channels=dataset.manifest["shape"][0],
        image_size=side,
        classes=len(dataset.classes),
        generator=generator(config.seed, "report/features"),
        width=config.encoder.width,
    )
    return network.eval(), f"a {name} with random weights (seed {config.seed}), which the condensation did not use"


def _features(network: Network, images: Tensor, stored: Condensed) -> Tensor:
    """Features in the units of the picture: of length 1, so that bright images do not lie far away."""
    parts = [network.features(standardise(part, stored.mean, stored.std)).flatten(1) for part in images.split(BLOCK)]
    features = torch.cat(parts).double()
    return features / features.norm(dim=1, keepdim=True).clamp_min(1e-12)


def _main_components(features_FD: Tensor) -> tuple[Tensor, Tensor, tuple[float, float]]:
    """Two orthogonal directions [2, D], the mean, and the percentage of the variance along either."""
    centre = features_FD.mean(0)
    _, values, directions = torch.linalg.svd(features_FD - centre, full_matrices=False)
    variance = values.square()
    first, second = (100 * variance[:2] / variance.sum().clamp_min(1e-30)).tolist()
    axes = directions[:2]
    signs = torch.gather(axes, 1, axes.abs().argmax(1, keepdim=True)).sign()  # the sign of a direction is arbitrary
    return axes * signs, centre, (first, second)


def _placed(positions: Tensor) -> Tensor:
    """Positions [F, 2] within the picture; one scale for both axes would leave most of it empty."""
    low, high = positions.min(0).values, positions.max(0).values
    unit = (positions - low) / (high - low).clamp_min(1e-12)
    size = torch.tensor([WIDTH - 2 * MARGIN, HEIGHT - 2 * MARGIN], dtype=unit.dtype)
    flipped = torch.stack([unit[:, 0], 1 - unit[:, 1]], dim=1)
    return flipped * size + MARGIN
