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


def instance_norm(channels: int) -> nn.GroupNorm:
    """Instance normalisation with scale and shift: a group per channel."""
    return nn.GroupNorm(channels, channels)


@torch.no_grad()
def initialise(network: nn.Module, generator: torch.Generator, *, fan_out: bool = False) -> None:
    """Draws all weights anew, in place: whoever holds the network goes on with it.

    Layers are visited in the order of ``network.modules()``. Convolutions and linear layers get torch's
    defaults (uniform within 1 / sqrt(fan in)); with ``fan_out`` convolutions get the normal distribution
    of He et al. (2015) that residual networks use.

    Args:
        network: any module of convolutions, linear layers and norms.
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
        elif isinstance(module, nn.GroupNorm):
            module.weight.fill_(1)
            module.bias.fill_(0)


def _uniform(parameter: Tensor, bound: float, generator: torch.Generator) -> None:
    parameter.copy_(torch.empty(parameter.shape).uniform_(-bound, bound, generator=generator))
