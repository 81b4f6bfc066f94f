"""The state of a condensation, the step of its pixels, and the sentences of why a run stopped.

    K  classes    S  stored images of a class    C, H, W  channels, height, width

How the pixel step relates to the published one. The published loop visits the classes one after another
and takes one SGD step with momentum over the tensor of *all* classes each time. A class's pixels therefore
get their gradient once a sweep and coast on momentum through the other classes' steps: with momentum m,
learning rate r and C classes, a class at position k of the sweep moves, per sweep,

    before its turn   k steps without a gradient:         v <- m^k v,   x <- x - r v (m + ... + m^k)
    at its turn       one step with the gradient g there: v <- m v + g, x <- x - r v
    after its turn    C - 1 - k steps without a gradient, like the first line

and the pixels are clamped to [0, 1] where a sweep begins. The sums are geometric, so all classes move at
once and to the same place, up to rounding: that is the ``reference`` step. With ten or more classes one
sweep moves a pixel by about ``2 r g``, and hardly any momentum is left for the next one. The position and
the number of classes are those of the whole run, so a class moves alike in every group.
``plain`` is one ordinary SGD step with momentum per sweep; in the long run it moves as far.
"""

import enum
from dataclasses import dataclass

import torch
from torch import Tensor

from m3d.formation import decode
from m3d.shapes import Float, Int


@dataclass(frozen=True, kw_only=True)
class CondenseState:
    """Everything that a condensation needs to go on: what a checkpoint stores. Draws follow from the counter."""

    pixels_KSCHW: Float[Tensor, "K S C H W"]
    """Stored images; within [0, 1] at the beginning of a sweep."""
    momentum_KSCHW: Float[Tensor, "K S C H W"]
    iteration: int
    """Sweeps that have been done."""
    broken_K: Int[Tensor, " K"]
    """The iteration at which a class's loss was not finite for the first time, or -1."""


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
    factor: int
    mean: tuple[float, ...]
    """Of the real images, per channel: what networks are fed is (image - mean) / std."""
    std: tuple[float, ...]

    def views(self, *, normalise: bool = True) -> tuple[Float[Tensor, "B C H W"], Int[Tensor, " B"]]:
        """Training images and their labels: every tile decoded, class by class, on the CPU.

        Args:
            normalise: subtract the mean and divide by the deviation; otherwise values are in [0, 1].
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
    """Moves pixels by ``steps`` SGD steps without a gradient, in place, a number of steps per class."""
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
