"""The base of every network: features, a classifier over them, and weights that follow from a generator."""

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from m3d.shapes import Float

TOKEN_DEVIATION = 0.02
"""Standard deviation of fresh learned tokens and positions (Dosovitskiy et al., 2021)."""


class Network(nn.Module):
    """A classifier with a public penultimate vector. Norm layers work per sample, so images never mix."""

    feature_count: int
    """Length of the feature vector."""
    classifier: nn.Linear
    fan_out: ClassVar[bool] = False
    """Whether convolutions are drawn as in residual networks (He et al., 2015) rather than with torch's defaults."""

    def features(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D"]:
        """The vector before the classifier, not normalised, shape [B, feature_count]."""
        raise NotImplementedError

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B classes"]:
        """Logits, shape [B, classes]."""
        return self.classifier(self.features(x))

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator) -> None:
        """Draws all weights again, in place, so that compiled code and optimisers keep working on them.

        Layers are visited in the order of ``modules()``. Convolutions and linear layers get torch's defaults, uniform
        within 1 / sqrt(fan in). With ``fan_out``, convolutions get normal numbers of variance 2 / fan out. Norms
        become the identity. Learned tokens get small normal numbers.

        Args:
            generator: on the CPU, so that every device gets the same weights.
        """
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                fan_in = module.weight[0].numel()
                if self.fan_out and isinstance(module, nn.Conv2d):
                    kernel_area = module.kernel_size[0] * module.kernel_size[1]
                    _draw_normal(module.weight, math.sqrt(2 / (kernel_area * module.out_channels)), generator)
                else:
                    _draw_uniform(module.weight, 1 / math.sqrt(fan_in), generator)
                if module.bias is not None:
                    _draw_uniform(module.bias, 1 / math.sqrt(fan_in), generator)
            elif isinstance(module, nn.GroupNorm | nn.LayerNorm):
                module.weight.fill_(1)
                module.bias.fill_(0)
            elif isinstance(module, Tokens):
                for parameter in (module.first, module.positions):
                    _draw_normal(parameter, TOKEN_DEVIATION, generator)


class Tokens(nn.Module):
    """Puts a learned class token before the patches of an image and adds a learned vector at every position."""

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.empty(1, 1, width))
        self.positions = nn.Parameter(torch.empty(1, count, width))

    def forward(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B U D"]:
        """Tokens [B, T + 1, D] of patches [B, T, D]."""
        return torch.cat([self.first.expand(len(x), -1, -1), x], 1) + self.positions


def instance_norm(channels: int) -> nn.GroupNorm:
    """Instance normalisation with scale and shift: one group per channel."""
    return nn.GroupNorm(channels, channels)


def _draw_uniform(parameter: Tensor, bound: float, generator: torch.Generator) -> None:
    parameter.copy_(torch.empty(parameter.shape).uniform_(-bound, bound, generator=generator))


def _draw_normal(parameter: Tensor, deviation: float, generator: torch.Generator) -> None:
    parameter.copy_(torch.empty(parameter.shape).normal_(0, deviation, generator=generator))
