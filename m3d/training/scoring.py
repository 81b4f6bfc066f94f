"""Scores of networks trained on an image set, over seeds and architectures."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from m3d.backend.precision import convolutions, encoding, resolve
from m3d.config import Train
from m3d.encoders import Network
from m3d.shapes import Float, Int, UInt8
from m3d.state import standardise
from m3d.training.ensemble import train_together
from m3d.training.trainer import Trainer

TEST_BLOCK_PIXELS = 64 * 32 * 32
"""Pixels of test images that go through a network at once."""
LOOKS = "looks"
"""Name, beside a kept network's tensors, of the test accuracies that were looked at on the way."""


@dataclass(frozen=True, kw_only=True)
class TestSet:
    """Test images as they are stored, and how to normalise them."""

    __test__ = False  # not a test class, whatever its name says to pytest

    images: UInt8[Tensor, "B C H W"]
    labels: Int[Tensor, " B"]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: int


@runtime_checkable  # beartype asks, in tests
class Keeper(Protocol):
    """Where networks under way are kept, so that an interrupted training goes on."""

    def load(self, seed: int) -> tuple[int, dict[str, Tensor]] | None:
        """Epochs that are done and the tensors after them, or None."""
        ...

    def keep(self, seed: int, epoch: int, tensors: Callable[[], dict[str, Tensor]]) -> None:
        """Is called after every epoch, and stores the tensors when it sees fit."""
        ...

    def finished(self, seed: int) -> None:
        """The network is scored; nothing of it needs to be kept."""
        ...


@dataclass(frozen=True, kw_only=True)
class Score:
    """What became of one network."""

    confusion: Int[Tensor, "classes classes"]
    """Test images by class (row) and by the class that the network takes them for (column)."""
    best_accuracy: float | None = None
    """The best test accuracy, in percent, at the epochs that were looked at: what other papers report. Nothing follows from it."""

    @property
    def accuracy(self) -> float:
        """Of the last epoch, in percent, 0 to 100."""
        return percent_right(self.confusion)


def percent_right(confusion: Int[Tensor, "classes classes"]) -> float:
    """Share of test images on the diagonal, in percent."""
    return 100 * int(confusion.trace()) / int(confusion.sum())


@torch.no_grad()
def confusion(
    network: Network, test: TestSet, *, precision: str = "float32", logits: Callable[[Tensor], Tensor] | None = None
) -> Int[Tensor, "classes classes"]:
    """Test images by their class and by the class of their largest logit, int64 on the CPU.

    Args:
        network: in evaluation mode, on any device.
        test: at least one image.
        precision: auto, float32, tf32 or bfloat16.
        logits: the network's compiled forward pass, used for the blocks of full size.
    """
    device = next(network.parameters()).device
    precision = resolve(precision, device)
    side = test.images.shape[-1]
    block = max(1, TEST_BLOCK_PIXELS // side**2)
    counts = torch.zeros(test.classes**2, dtype=torch.int64, device=device)
    for images, labels in zip(test.images.split(block), test.labels.split(block), strict=True):
        batch = standardise(images.to(device).float() / 255, test.mean, test.std)
        forward = logits if logits is not None and len(batch) == block else network
        with convolutions(precision, device), encoding(precision, device):
            scores = forward(batch)
        counts += torch.bincount(labels.to(device) * test.classes + scores.argmax(1), minlength=test.classes**2)
    return counts.view(test.classes, test.classes).cpu()


def accuracy(
    network: Network, test: TestSet, *, precision: str = "float32", logits: Callable[[Tensor], Tensor] | None = None
) -> float:
    """Share of test images whose largest logit is their label, in percent, 0 to 100. Arguments as for ``confusion``."""
    return percent_right(confusion(network, test, precision=precision, logits=logits))


def train_and_score(
    architecture: str,
    images: Float[Tensor, "B C H W"],
    labels: Int[Tensor, " B"] | Float[Tensor, "B classes"],
    test: TestSet,
    *,
    config: Train,
    seeds: range,
    precision: str = "float32",
    compiled: bool = False,
) -> Iterator[tuple[int, float]]:
    """Trains a fresh network per seed on normalised images; yields (seed, accuracy in percent). See ``trials``."""
    for seed, score in trials(
        architecture, images, labels, test, config=config, seeds=seeds, precision=precision, compiled=compiled
    ):
        yield seed, score.accuracy


def trials(
    architecture: str,
    images: Float[Tensor, "B C H W"],
    labels: Int[Tensor, " B"] | Float[Tensor, "B classes"],
    test: TestSet,
    *,
    config: Train,
    seeds: Sequence[int],
    precision: str = "float32",
    compiled: bool = False,
    best_epoch: int = 0,
    keeper: Keeper | None = None,
) -> Iterator[tuple[int, Score]]:
    """Trains a fresh network per seed on normalised images, one after another.

    Args:
        architecture, images, labels, config, precision: as ``train`` takes them.
        test: what the networks are scored on.
        seeds: one network each.
        compiled: whether the networks are compiled: the same code serves every seed, and later calls alike.
        best_epoch: epochs between two looks for ``Score.best_accuracy``; 0 never looks.
        keeper: of networks under way, and of what was seen of them on the way.

    Yields:
        (seed, score of the last epoch).
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
    logits = trainer.logits if compiled else None
    for seed in seeds:
        begin = keeper.load(seed) if keeper else None
        looks = begin[1][LOOKS].tolist() if begin and best_epoch else []

        def look(epoch: int, looks: list[float] = looks) -> None:
            if epoch % best_epoch == 0:
                looks.append(accuracy(trainer.network, test, precision=trainer.precision, logits=logits))

        def keep(
            epoch: int, tensors: Callable[[], dict[str, Tensor]], seed: int = seed, looks: list[float] = looks
        ) -> None:
            assert keeper is not None
            keeper.keep(seed, epoch, lambda: {**tensors(), LOOKS: torch.tensor(looks, dtype=torch.float64)})

        network = trainer.train(
            images,
            labels,
            config=config,
            seed=seed,
            after_epoch=look if best_epoch else None,
            begin=begin,
            keep=keep if keeper else None,
        )
        found = confusion(network, test, precision=trainer.precision, logits=logits)
        best = max([*looks, percent_right(found)]) if best_epoch else None
        if keeper:
            keeper.finished(seed)
        yield seed, Score(confusion=found, best_accuracy=best)


def trials_together(
    architecture: str,
    images: Float[Tensor, "S B C H W"],
    labels: Int[Tensor, " B"],
    test: TestSet,
    *,
    config: Train,
    seeds: Sequence[int],
    precision: str = "float32",
) -> Iterator[tuple[int, Score]]:
    """As ``trials`` for networks that are trained as one, each on a set of its own: the same figures up to rounding."""
    networks = train_together(
        architecture, images, labels, classes=test.classes, config=config, seeds=seeds, precision=precision
    )
    for seed, network in zip(seeds, networks, strict=True):
        yield seed, Score(confusion=confusion(network, test, precision=precision))


@lru_cache(maxsize=4)
def _trainer(
    architecture: str, shape: tuple[int, int, int], classes: int, precision: str, compiled: bool, device: torch.device
) -> Trainer:
    return Trainer(architecture, shape, classes=classes, precision=precision, compiled=compiled, device=device)
