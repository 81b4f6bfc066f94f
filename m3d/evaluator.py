"""Accuracy of networks trained on an image set, over seeds and architectures."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from m3d.config import Train
from m3d.encoders import Network
from m3d.precision import convolutions, encoding, resolve
from m3d.shapes import Float, Int, UInt8
from m3d.state import standardise
from m3d.train import Trainer

TEST_BLOCK_PIXELS = 64 * 32 * 32
"""Pixels of test images that go through a network at once."""


@dataclass(frozen=True, kw_only=True)
class TestSet:
    """Test images as they are stored, and how to normalise them."""

    __test__ = False  # not a test class, whatever its name says to pytest

    images: UInt8[Tensor, "B C H W"]
    labels: Int[Tensor, " B"]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: int


@torch.no_grad()
def accuracy(
    network: Network, test: TestSet, *, precision: str = "float32", logits: Callable[[Tensor], Tensor] | None = None
) -> float:
    """Share of test images whose largest logit is their label, in percent, 0 to 100.

    Args:
        network: in evaluation mode, on any device.
        test: at least one image.
        precision: auto, float32, tf32 or bfloat16.
        logits: the network's compiled forward pass, used for the blocks of full size.
    """
    device = next(network.parameters()).device
    precision = resolve(precision, device)
    side = test.images.shape[-1]
    block, right = max(1, TEST_BLOCK_PIXELS // side**2), 0
    for images, labels in zip(test.images.split(block), test.labels.split(block), strict=True):
        batch = standardise(images.to(device).float() / 255, test.mean, test.std)
        forward = logits if logits is not None and len(batch) == block else network
        with convolutions(precision, device), encoding(precision, device):
            scores = forward(batch)
        right += int((scores.argmax(1) == labels.to(device)).sum())
    return 100 * right / len(test.labels)


def train_and_score(
    architecture: str,
    images: Float[Tensor, "B C H W"],
    labels: Int[Tensor, " B"],
    test: TestSet,
    *,
    config: Train,
    seeds: range,
    precision: str = "float32",
    compiled: bool = False,
) -> Iterator[tuple[int, float]]:
    """Trains a fresh network per seed on normalised images.

    Args:
        architecture, images, labels, config, precision: as ``train`` takes them.
        test: what the networks are scored on.
        seeds: one network each.
        compiled: whether the networks are compiled: the same code serves every seed, and later calls alike.

    Yields:
        (seed, accuracy in percent).
    """
    channels, height, width = images.shape[1:]
    trainer = _trainer(
        architecture,
        (channels, height, width),
        test.classes,
        resolve(precision, images.device),
        compiled,
        images.device,
    )
    for seed in seeds:
        network = trainer.train(images, labels, config=config, seed=seed)
        logits = trainer.logits if compiled else None
        yield seed, accuracy(network, test, precision=trainer.precision, logits=logits)


@lru_cache(maxsize=4)
def _trainer(
    architecture: str, shape: tuple[int, int, int], classes: int, precision: str, compiled: bool, device: torch.device
) -> Trainer:
    return Trainer(architecture, shape, classes=classes, precision=precision, compiled=compiled, device=device)
