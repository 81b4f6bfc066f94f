"""ConvNet-k: k blocks of 3x3 convolution, instance norm, ReLU and 2x2 average pooling.

Source: Gidaris and Komodakis (2018) as used by DC, DSA, DM and M3D, with 128 channels. The first convolution pads an
input of 28 x 28 by 3, so that it ends in the same 2048 features as 32 x 32.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from m3d.config import ConfigError
from m3d.encoders.network import Network, instance_norm
from m3d.shapes import Float


class ConvNet(Network):
    """A plain convolutional network of ``depth`` blocks."""

    def __init__(self, *, depth: int, width: int, channels: int, image_size: int, classes: int) -> None:
        super().__init__()
        first_padding = 3 if image_size == 28 else 1
        if image_size + 2 * (first_padding - 1) < 2**depth:
            raise ConfigError(f"needs images of at least {2**depth} px, given {image_size}; use fewer blocks")
        sides = [channels] + [width] * depth
        self.convolutions = nn.ModuleList(
            nn.Conv2d(sides[i], width, 3, padding=first_padding if i == 0 else 1) for i in range(depth)
        )
        self.norms = nn.ModuleList(instance_norm(width) for _ in range(depth))
        side = image_size + 2 * (first_padding - 1)
        for _ in range(depth):
            side //= 2
        self.feature_count = width * side**2
        self.classifier = nn.Linear(self.feature_count, classes)

    def features(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D"]:
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = F.avg_pool2d(F.relu(norm(convolution(x))), 2)
        return x.flatten(1)
