"""What every network here is: features, a classifier over them, and weights that follow from a generator."""

import math

import torch
from torch import Tensor, nn

from m3d.shapes import Float


class Network(nn.Module):
    """A classifier whose penultimate vector is public. Norm layers are per sample, so images never mix."""

    feature_count: int
    """Length of the feature vector."""
    classifier: nn.Linear

    def features(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D"]:
        """The vector before the classifier, not normalised, shape [B, feature_count]."""
        raise NotImplementedError

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B classes"]:
        """Logits, shape [B, classes]."""
        return self.classifier(self.features(x))


class Tokens(nn.Module):
    """Puts a learned class token before the patches of an image and adds a learned vector to every position."""

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.empty(1, 1, width))
        self.positions = nn.Parameter(torch.empty(1, count, width))

    def forward(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B U D"]:
        """Patches [B, T, D] become tokens [B, T + 1, D]."""
        return torch.cat([self.first.expand(len(x), -1, -1), x], 1) + self.positions


TOKEN_DEVIATION = 0.02
"""Of the normal numbers that learned tokens and positions begin with (Dosovitskiy et al., 2021)."""


def instance_norm(channels: int) -> nn.GroupNorm:
    """Instance normalisation with scale and shift: a group per channel."""
    return nn.GroupNorm(channels, channels)


@torch.no_grad()
def initialise(network: nn.Module, generator: torch.Generator, *, fan_out: bool = False) -> None:
    """Draws all weights anew, in place: whoever holds the network goes on with it.

    Layers are visited in the order of ``network.modules()``. Convolutions and linear layers get torch's
    defaults (uniform within 1 / sqrt(fan in)); with ``fan_out`` convolutions get the normal distribution
    of He et al. (2015) that residual networks use. Learned tokens get small normal numbers.

    Args:
        network: any module of convolutions, linear layers, norms and tokens.
        generator: on the CPU, so that every device gets the same weights.
        fan_out: how convolutions are drawn.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            fan_in = module.weight[0].numel()
            if fan_out and isinstance(module, nn.Conv2d):
                kernel_area = module.kernel_size[0] * module.kernel_size[1]
                deviation = math.sqrt(2 / (kernel_area * module.out_channels))
                module.weight.copy_(torch.empty(module.weight.shape).normal_(0, deviation, generator=generator))
            else:
                _uniform(module.weight, 1 / math.sqrt(fan_in), generator)
            if module.bias is not None:
                _uniform(module.bias, 1 / math.sqrt(fan_in), generator)
        elif isinstance(module, nn.GroupNorm | nn.LayerNorm):
            module.weight.fill_(1)
            module.bias.fill_(0)
        elif isinstance(module, Tokens):
            for parameter in (module.first, module.positions):
                parameter.copy_(torch.empty(parameter.shape).normal_(0, TOKEN_DEVIATION, generator=generator))


def _uniform(parameter: Tensor, bound: float, generator: torch.Generator) -> None:
    parameter.copy_(torch.empty(parameter.shape).uniform_(-bound, bound, generator=generator))
