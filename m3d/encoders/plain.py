"""Networks without shortcuts for evaluating condensed sets: an MLP, LeNet, AlexNet and VGG-11.

Source: their small forms in DC (Zhao et al., 2021), as used by DM and M3D. The MLP has two hidden layers of 128. LeNet
has the layer sizes of LeNet-5 (LeCun et al., 1998), fully connected between feature maps, with ReLUs and max pooling.
AlexNet keeps the resolution in its first 5x5 convolution and has no norms. VGG-11 has instance norms and one linear
classifier. Inputs of 28 px are padded so that they continue as 32 px. Choices that DC does not define are documented
beside the code.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from m3d.config import ConfigError
from m3d.encoders.network import Network, instance_norm
from m3d.shapes import Float

MLP_WIDTH = 128
LEAST_SIDE = 8
"""Smallest side of the images of AlexNet and VGG-11, in pixels: below it, pooling would leave nothing to convolve."""
ALEXNET_LARGE = 64
"""Side in pixels above which AlexNet starts as published (Krizhevsky et al., 2012): 11x11 with stride 4."""
ALEXNET_SIDE = 4
"""Largest side of AlexNet's features, which images of 32 px reach; larger ones are averaged down to it."""
LENET_SIDE = 5
"""The same for LeNet, which images of 28 and 32 px reach."""
VGG11_STAGES = ((64,), (128,), (256, 256), (512, 512), (512, 512))


class Mlp(Network):
    """Two hidden layers of 128 over all pixels."""

    feature_count = MLP_WIDTH

    def __init__(self, *, channels: int, image_size: int, classes: int) -> None:
        super().__init__()
        self.first = nn.Linear(channels * image_size**2, MLP_WIDTH)
        self.second = nn.Linear(MLP_WIDTH, MLP_WIDTH)
        self.classifier = nn.Linear(MLP_WIDTH, classes)

    def features(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D"]:
        return F.relu(self.second(F.relu(self.first(x.flatten(1)))))


class LeNet(Network):
    """Two 5x5 convolutions of 6 and 16 channels, each followed by 2x2 max pooling, and two hidden layers; no norms."""

    feature_count = 84

    def __init__(self, *, channels: int, image_size: int, classes: int) -> None:
        super().__init__()
        padding = 2 if image_size == 28 else 0
        side = ((image_size + 2 * padding - 4) // 2 - 4) // 2
        if side < 1:
            raise ConfigError(f"needs images of at least 16 px, given {image_size}; use a ConvNet or larger images")
        self.side = min(side, LENET_SIDE)
        self.first = nn.Conv2d(channels, 6, 5, padding=padding)
        self.second = nn.Conv2d(6, 16, 5)
        self.third = nn.Linear(16 * self.side**2, 120)
        self.fourth = nn.Linear(120, self.feature_count)
        self.classifier = nn.Linear(self.feature_count, classes)

    def features(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D"]:
        x = F.max_pool2d(F.relu(self.first(x)), 2)
        x = F.max_pool2d(F.relu(self.second(x)), 2)
        x = F.adaptive_avg_pool2d(x, self.side).flatten(1)
        return F.relu(self.fourth(F.relu(self.third(x))))


class AlexNet(Network):
    """Five convolutions, three of them followed by 2x2 max pooling, without norms."""

    def __init__(self, *, channels: int, image_size: int, classes: int) -> None:
        super().__init__()
        _refuse_small(image_size)
        if image_size > ALEXNET_LARGE:
            self.first, side = nn.Conv2d(channels, 128, 11, stride=4, padding=5), -(-image_size // 4)
        else:
            padding = 4 if image_size == 28 else 2
            self.first, side = nn.Conv2d(channels, 128, 5, padding=padding), image_size + 2 * (padding - 2)
        self.second = nn.Conv2d(128, 192, 5, padding=2)
        widths = (192, 256, 192, 192)
        self.rest = nn.ModuleList(nn.Conv2d(widths[i], widths[i + 1], 3, padding=1) for i in range(3))
        self.side = min(side // 8, ALEXNET_SIDE)
        self.feature_count = widths[-1] * self.side**2
        self.classifier = nn.Linear(self.feature_count, classes)

    def features(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D"]:
        x = F.max_pool2d(F.relu(self.first(x)), 2)
        x = F.max_pool2d(F.relu(self.second(x)), 2)
        for convolution in self.rest:
            x = F.relu(convolution(x))
        return F.adaptive_avg_pool2d(F.max_pool2d(x, 2), self.side).flatten(1)


class Vgg11(Network):
    """Eight 3x3 convolutions in five stages, then an average over the remaining pixels: 512 features.

    A pooling after which a norm would see a single pixel (and return 0) is skipped. Images of 32 px, as in DC, skip none.
    """

    feature_count = VGG11_STAGES[-1][-1]

    def __init__(self, *, channels: int, image_size: int, classes: int) -> None:
        super().__init__()
        _refuse_small(image_size)
        padding = 3 if image_size == 28 else 1
        side, entering = image_size + 2 * (padding - 1), channels
        convolutions: list[nn.Module] = []
        norms: list[nn.Module] = []
        self.plan: list[tuple[int, bool]] = []
        """Convolutions of every stage, and whether it ends with a pooling."""
        for number, widths in enumerate(VGG11_STAGES):
            for width in widths:
                convolutions.append(nn.Conv2d(entering, width, 3, padding=padding))
                norms.append(instance_norm(width))
                entering, padding = width, 1
            pooled = side > 2 or number == len(VGG11_STAGES) - 1
            side = side // 2 if pooled else side
            self.plan.append((len(widths), pooled))
        self.convolutions, self.norms = nn.ModuleList(convolutions), nn.ModuleList(norms)
        self.classifier = nn.Linear(self.feature_count, classes)

    def features(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D"]:
        layers = zip(self.convolutions, self.norms, strict=True)
        for count, pooled in self.plan:
            for _ in range(count):
                convolution, norm = next(layers)
                x = F.relu(norm(convolution(x)))
            if pooled:
                x = F.max_pool2d(x, 2)
        return x.mean((2, 3))


def _refuse_small(image_size: int) -> None:
    if image_size < LEAST_SIDE:
        text = f"needs images of at least {LEAST_SIDE} px, given {image_size}; use a ConvNet or larger images"
        raise ConfigError(text)
