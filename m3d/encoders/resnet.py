"""Residual networks with instance norm: ResNet-18, and ResNetAP-10 with average pooling in place of strides.

Source: He et al. (2016). ResNetAP is IDC's: for images above 64 px a 7x7 stem at full resolution and 4x4 average
pooling, for smaller ones a 3x3 stem without pooling. The pooled vector before the classifier has 512 features.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from m3d.config import ConfigError
from m3d.encoders.network import Network, instance_norm
from m3d.shapes import Float

WIDTHS = (64, 128, 256, 512)
SMALL_SIDE = 64
"""Largest side in pixels at which the stem keeps the resolution."""


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut. With ``halve`` it halves the side: ``pooled`` by average pooling, else by stride."""

    def __init__(self, entering: int, leaving: int, *, halve: bool, pooled: bool) -> None:
        super().__init__()
        stride = 2 if halve and not pooled else 1
        self.pool = halve and pooled
        self.first = nn.Conv2d(entering, leaving, 3, stride=stride, padding=1, bias=False)
        self.first_norm = instance_norm(leaving)
        self.second = nn.Conv2d(leaving, leaving, 3, padding=1, bias=False)
        self.second_norm = instance_norm(leaving)
        self.shortcut: nn.Module | None = None
        if halve or entering != leaving:
            self.shortcut = nn.Conv2d(entering, leaving, 1, stride=stride, bias=False)
            self.shortcut_norm = instance_norm(leaving)

    def forward(self, x: Tensor) -> Tensor:
        inner = F.relu(self.first_norm(self.first(x)))
        if self.pool:
            inner = F.avg_pool2d(inner, 2)
        inner = self.second_norm(self.second(inner))
        if self.shortcut is not None:
            x = self.shortcut(x)
            x = self.shortcut_norm(F.avg_pool2d(x, 2) if self.pool else x)
        return F.relu(inner + x)


class ResNet(Network):
    """A residual network of four stages with ``blocks`` blocks each."""

    feature_count = WIDTHS[-1]
    fan_out = True

    def __init__(self, *, blocks: int, pooled: bool, channels: int, image_size: int, classes: int) -> None:
        super().__init__()
        # Instance norm over a single pixel is always 0: the last stage must have more than one.
        if image_size < 16:
            raise ConfigError(f"needs images of at least 16 px, given {image_size}; use a ConvNet or larger images")
        large = image_size > SMALL_SIDE
        if not large:
            self.stem = nn.Conv2d(channels, WIDTHS[0], 3, padding=1, bias=False)
        elif pooled:
            self.stem = nn.Conv2d(channels, WIDTHS[0], 7, padding=3, bias=False)
        else:
            self.stem = nn.Conv2d(channels, WIDTHS[0], 7, stride=2, padding=3, bias=False)
        self.large, self.pooled = large, pooled
        self.stem_norm = instance_norm(WIDTHS[0])
        stages: list[nn.Module] = []
        entering = WIDTHS[0]
        for stage, leaving in enumerate(WIDTHS):
            for block in range(blocks):
                stages.append(Block(entering, leaving, halve=stage > 0 and block == 0, pooled=pooled))
                entering = leaving
        self.stages = nn.Sequential(*stages)
        self.classifier = nn.Linear(self.feature_count, classes)

    def features(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D"]:
        x = F.relu(self.stem_norm(self.stem(x)))
        if self.large:
            x = F.avg_pool2d(x, 4) if self.pooled else F.max_pool2d(x, 3, stride=2, padding=1)
        return self.stages(x).mean((2, 3))
