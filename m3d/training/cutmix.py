"""CutMix: a box of another image of the batch is pasted into each image, and its label is mixed in by area.

Source: Yun et al., "CutMix" (2019).

B  images    C, H, W  channels, height, width
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from m3d.training.settings import Train


@dataclass(frozen=True, kw_only=True)
class CutMix:
    """The draw for one batch."""

    partner_B: Tensor
    """Position in the batch of the image that gives the box, int64."""
    top: int
    bottom: int
    left: int
    right: int

    def share(self, height: int, width: int) -> float:
        """Fraction of its pixels that every image keeps."""
        return 1 - (self.bottom - self.top) * (self.right - self.left) / (height * width)

    def paste(self, batch_BCHW: Tensor) -> Tensor:
        """A copy of the batch with the boxes pasted, [B, C, H, W]. ``partner_B`` must be on the batch's device."""
        mixed = batch_BCHW.clone()
        rows, columns = slice(self.top, self.bottom), slice(self.left, self.right)
        mixed[:, :, rows, columns] = batch_BCHW[self.partner_B, :, rows, columns]
        return mixed


def draw_cutmix(batch: Tensor, config: Train, random: torch.Generator) -> CutMix | None:
    """The partners and the box of a batch [B, C, H, W], or None for a step without CutMix.

    Args:
        batch: only its shape and device count.
        config: probability of CutMix and its beta distribution.
        random: on the CPU; no number is drawn if the probability is 0.
    """
    if config.cutmix_probability == 0 or float(torch.rand((), generator=random)) >= config.cutmix_probability:
        return None
    count, (height, width) = len(batch), batch.shape[-2:]
    partner_B = torch.randperm(count, generator=random).to(batch.device, non_blocking=True)
    top, bottom, left, right = draw_box(height, width, config.cutmix_beta, random)
    return CutMix(partner_B=partner_B, top=top, bottom=bottom, left=left, right=right)


def draw_box(height: int, width: int, beta: float, random: torch.Generator) -> tuple[int, int, int, int]:
    """A box (top, bottom, left, right): its centre is uniform, its area before clipping is beta distributed."""
    own_share = _beta(beta, random)
    side = (1 - own_share) ** 0.5
    y = int(torch.randint(height, (), generator=random))
    x = int(torch.randint(width, (), generator=random))
    half_y, half_x = int(height * side) // 2, int(width * side) // 2
    return max(0, y - half_y), min(height, y + half_y), max(0, x - half_x), min(width, x + half_x)


def _beta(beta: float, random: torch.Generator) -> float:
    if beta == 1:
        return float(torch.rand((), generator=random))
    # torch's Beta accepts no generator; numpy's accepts a seed.
    seed = int(torch.randint(2**62, (), generator=random))
    return float(np.random.default_rng(seed).beta(beta, beta))
