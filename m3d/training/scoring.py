"""Trains networks on an image set, one per seed, and scores them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from m3d.backend.precision import convolutions, encoding, resolve
from m3d.pulse import beat
from m3d.shapes import Float, Int, UInt8
from m3d.state import standardise
from m3d.training.ensemble import train_together
from m3d.training.settings import Recipe
from m3d.training.trainer import Trainer

TEST_BLOCK_PIXELS = 64 * 32 * 32
"""Pixels of test images per pass of a network."""
LOOKS = "looks"
"""Name, among a stored network's tensors, of the test accuracies measured so far."""


@dataclass(frozen=True, kw_only=True)
class TestSet:
    """Test images as they are stored, their labels, and how to normalise them."""

    __test__ = False  # not a test class, whatever its name says to pytest

    images: UInt8[Tensor, "B C H W"]
    labels: Int[Tensor, " B"]
    mean: tuple[float, ...]
    """Mean per channel, for images in [0, 1]."""
    std: tuple[float, ...]
    """Standard deviation per channel."""
    classes: int


@runtime_checkable  # for the type checks of the tests
class Keeper(Protocol):
    """Stores networks in training, so that an interrupted training can resume."""

    def load(self, seed: int) -> tuple[int, dict[str, Tensor]] | None:
        """Finished epochs of a seed's network and the tensors after them, or None."""
        ...

    def keep(self, seed: int, epoch: int, tensors: Callable[[], dict[str, Tensor]]) -> None:
        """Called after every epoch; decides whether to store the tensors."""
        ...

    def finished(self, seed: int) -> None:
        """Called after the network was scored; its tensors are not needed any more."""
        ...


@dataclass(frozen=True, kw_only=True)
class Score:
    """The result of one network."""

    confusion: Int[Tensor, "classes classes"]
    """Number of test images by class (row) and predicted class (column)."""
    best_accuracy: float | None = None
    """Best test accuracy in percent over the measured epochs, as some papers report it. Nothing is selected by it."""
    measured: tuple[float, ...] = ()
    """Test accuracy in percent at every ``best_epoch``-th epoch; empty if it was measured after the last epoch only."""

    @property
    def accuracy(self) -> float:
        """Accuracy after the last epoch, in percent, 0 to 100."""
        return percent_right(self.confusion)


def percent_right(confusion: Int[Tensor, "classes classes"]) -> float:
    """Percentage of test images on the diagonal."""
    return 100 * int(confusion.trace()) / int(confusion.sum())


@torch.no_grad()
def confusion(
    network: nn.Module, test: TestSet, *, precision: str = "float32", logits: Callable[[Tensor], Tensor] | None = None
) -> Int[Tensor, "classes classes"]:
    """Number of test images by class and by the class of their largest logit, int64 on the CPU.

    Args:
        network: any that returns logits, in evaluation mode, on any device.
        test: at least one image.
        precision: auto, float32, tf32 or bfloat16.
        logits: the network's compiled forward pass, which is used for blocks of full size.
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
        beat()
        counts += torch.bincount(labels.to(device) * test.classes + scores.argmax(1), minlength=test.classes**2)
    return counts.view(test.classes, test.classes).cpu()


def accuracy(
    network: nn.Module, test: TestSet, *, precision: str = "float32", logits: Callable[[Tensor], Tensor] | None = None
) -> float:
    """Percentage of test images whose largest logit is their label, 0 to 100. Arguments as for ``confusion``."""
    return percent_right(confusion(network, test, precision=precision, logits=logits))


def train_and_score(
    recipe: Recipe,
    images: Float[Tensor, "B C H W"],
    labels: Int[Tensor, " B"] | Float[Tensor, "B classes"],
    test: TestSet,
    *,
    seeds: range,
) -> Iterator[tuple[int, float]]:
    """Trains a fresh network per seed on normalised images; yields (seed, accuracy in percent). See ``trials``."""
    for seed, score in trials(recipe, images, labels, test, seeds=seeds):
        yield seed, score.accuracy


def trials(
    recipe: Recipe,
    images: Float[Tensor, "B C H W"],
    labels: Int[Tensor, " B"] | Float[Tensor, "B classes"],
    test: TestSet,
    *,
    seeds: Sequence[int],
    best_epoch: int = 0,
    keeper: Keeper | None = None,
) -> Iterator[tuple[int, Score]]:
    """Trains a fresh network per seed on normalised images, one after another.

    Args:
        recipe: network and training; all seeds, and later calls, use the same compiled code.
        images: as for ``train``, like ``labels``.
        test: images that the networks are scored on.
        seeds: one per network.
        best_epoch: epochs between two measurements for ``Score.best_accuracy``; 0 measures none.
        keeper: stores networks in training, and what was measured during it, so that an interrupted call can resume.

    Yields:
        (seed, score after the last epoch).
    """
    channels, height, width = images.shape[1:]
    precision = resolve(recipe.precision, images.device)
    trainer = _trainer(
        recipe.architecture, (channels, height, width), test.classes, precision, recipe.compiled, images.device
    )
    logits = trainer.logits if recipe.compiled else None
    for seed in seeds:
        begin = keeper.load(seed) if keeper else None
        measured = begin[1][LOOKS].tolist() if begin and best_epoch else []

        def measure(epoch: int, measured: list[float] = measured) -> None:
            if epoch % best_epoch == 0:
                measured.append(accuracy(trainer.network, test, precision=precision, logits=logits))

        def keep(
            epoch: int, tensors: Callable[[], dict[str, Tensor]], seed: int = seed, measured: list[float] = measured
        ) -> None:
            assert keeper is not None
            keeper.keep(seed, epoch, lambda: {**tensors(), LOOKS: torch.tensor(measured, dtype=torch.float64)})

        network = trainer.train(
            images,
            labels,
            config=recipe.training,
            seed=seed,
            after_epoch=measure if best_epoch else None,
            begin=begin,
            keep=keep if keeper else None,
        )
        counts = confusion(network, test, precision=precision, logits=logits)
        best = max([*measured, percent_right(counts)]) if best_epoch else None
        if keeper:
            keeper.finished(seed)
        yield seed, Score(confusion=counts, best_accuracy=best, measured=tuple(measured))


def trials_together(
    recipe: Recipe,
    images: Float[Tensor, "S B C H W"],
    labels: Int[Tensor, " B"],
    test: TestSet,
    *,
    seeds: Sequence[int],
) -> Iterator[tuple[int, Score]]:
    """As ``trials``, for networks that are trained as one, each on its own set: the same scores up to rounding."""
    networks = train_together(recipe, images, labels, classes=test.classes, seeds=seeds)
    for seed, network in zip(seeds, networks, strict=True):
        yield seed, Score(confusion=confusion(network, test, precision=recipe.precision))


@lru_cache(maxsize=4)
def _trainer(
    architecture: str, shape: tuple[int, int, int], classes: int, precision: str, compiled: bool, device: torch.device
) -> Trainer:
    return Trainer(architecture, shape, classes=classes, precision=precision, compiled=compiled, device=device)
