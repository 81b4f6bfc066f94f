"""The state of a condensation, the step of its pixels, and the outcomes.

    K  classes    S  stored images of a class    C, H, W  channels, height, width

How the pixel step relates to the published one: the published loop visits the classes one after another and takes one
SGD step with momentum over the tensor of *all* classes each time. A class's pixels therefore get their gradient once
per sweep and coast on momentum through the other classes' steps. With momentum m, learning rate r and C classes, a
class at position k of the sweep moves as follows per sweep:

    before its turn   k steps without a gradient:         v <- m^k v,   x <- x - r v (m + ... + m^k)
    at its turn       one step with the gradient g there: v <- m v + g, x <- x - r v
    after its turn    C - 1 - k steps without a gradient, like the first line

The pixels are clamped to [0, 1] at the start of a sweep. The sums are geometric, so the ``reference`` step moves all
classes at once and to the same place, up to rounding. With ten or more classes, one sweep moves a pixel by about
``2 r g`` and leaves hardly any momentum for the next one. Position and number of classes are those of the complete run,
so a class moves the same in every group. ``plain`` is one ordinary SGD step with momentum per sweep; in the long run it
moves as far.
"""

import enum
from dataclasses import dataclass

import torch
from torch import Tensor

from m3d.formation import decode
from m3d.shapes import Float, Int


@dataclass(frozen=True, kw_only=True)
class CondenseState:
    """Everything that a condensation needs to resume: the contents of a checkpoint. Draws follow from the counter."""

    pixels_KSCHW: Float[Tensor, "K S C H W"]
    """Stored images; within [0, 1] at the start of a sweep."""
    momentum_KSCHW: Float[Tensor, "K S C H W"]
    """Momentum of the pixels."""
    iteration: int
    """Number of finished sweeps."""
    broken_K: Int[Tensor, " K"]
    """First iteration at which a class's loss was not finite, or -1."""


class Outcome(enum.Enum):
    """Why a condensation stopped, as a sentence."""

    FINISHED = "all iterations are done"
    NOT_FINITE = "the loss is not finite"


@dataclass(frozen=True, kw_only=True)
class Condensed:
    """A condensed set."""

    images_KSCHW: Float[Tensor, "K S C H W"]
    """Stored images in [0, 1], not normalised."""
    class_ids: tuple[int, ...]
    """Label of each class."""
    factor: int
    """Tiles along a side of a stored image."""
    mean: tuple[float, ...]
    """Mean of the real images per channel: networks are trained on (image - mean) / std."""
    std: tuple[float, ...]
    """Standard deviation of the real images per channel."""

    def views(self, *, normalise: bool = True) -> tuple[Float[Tensor, "B C H W"], Int[Tensor, " B"]]:
        """Training images and their labels: every tile decoded, class by class, on the CPU.

        Args:
            normalise: whether to subtract the mean and divide by the standard deviation; otherwise values are in [0, 1].
        """
        views = decode(self.images_KSCHW.cpu(), self.factor)
        labels = torch.tensor(self.class_ids).repeat_interleave(views.shape[1])
        images = views.flatten(0, 1)
        return (standardise(images, self.mean, self.std) if normalise else images), labels


def standardise(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """``(image - mean) / std`` per channel, for images [..., C, H, W] in [0, 1]."""
    shape = (-1, 1, 1)
    return (images - images.new_tensor(mean).view(shape)) / images.new_tensor(std).view(shape)


@torch.no_grad()
def coast(pixels: Tensor, momentum: Tensor, steps_K: Int[Tensor, " K"], rate: float, decay: float) -> None:
    """Moves pixels by SGD steps without a gradient, in place; ``steps_K`` is the number of steps per class."""
    if decay == 0:
        momentum.mul_((steps_K == 0).to(momentum.dtype).view(-1, 1, 1, 1, 1))
        return
    left_K = torch.pow(torch.full_like(steps_K, 1, dtype=torch.float64) * decay, steps_K)
    travelled_K = decay * (1 - left_K) / (1 - decay)
    pixels.sub_(momentum * (rate * travelled_K).to(pixels.dtype).view(-1, 1, 1, 1, 1))
    momentum.mul_(left_K.to(momentum.dtype).view(-1, 1, 1, 1, 1))


@torch.no_grad()
def descend(pixels: Tensor, momentum: Tensor, gradient: Tensor, rate: float, decay: float) -> None:
    """One SGD step with momentum, in place: ``v <- decay v + g``, ``x <- x - rate v``."""
    momentum.mul_(decay).add_(gradient)
    pixels.sub_(momentum, alpha=rate)
