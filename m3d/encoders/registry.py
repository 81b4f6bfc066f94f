"""Builds networks by name, with fresh seeded weights."""

import re
from collections.abc import Callable

import torch

from m3d.config import ConfigError
from m3d.encoders.catalogue import check_name
from m3d.encoders.convnet import ConvNet
from m3d.encoders.network import Network
from m3d.encoders.plain import AlexNet, LeNet, Mlp, Vgg11
from m3d.encoders.resnet import ResNet
from m3d.encoders.vit import VitTiny

_RESIDUAL = {"resnetap10": (1, True), "resnet18": (2, False)}
"""Blocks per stage, and whether average pooling replaces strides."""
_OTHERS: dict[str, Callable[..., Network]] = {
    "vgg11": Vgg11,
    "alexnet": AlexNet,
    "lenet": LeNet,
    "mlp": Mlp,
    "vit_tiny": VitTiny,
}


def build(
    name: str,
    *,
    channels: int,
    image_size: int,
    classes: int,
    generator: torch.Generator,
    width: int = 128,
    device: torch.device | str = "cpu",
) -> Network:
    """A network with fresh weights.

    Args:
        name: one of ``names()``.
        channels: of the images.
        image_size: side of the images in pixels.
        classes: outputs of the classifier.
        generator: on the CPU; the weights are a function of its state.
        width: channels of a ConvNet's blocks.
        device: of the weights.

    Raises:
        ConfigError: an unknown name, or images too small for the network.
    """
    network = architecture(name, channels=channels, image_size=image_size, classes=classes, width=width)
    network = network.to_empty(device=device)
    network.reset_parameters(generator)
    return network


def architecture(name: str, *, channels: int, image_size: int, classes: int, width: int = 128) -> Network:
    """A network without weights, on the meta device: for its shapes and its cost. Arguments as for ``build``.

    Raises:
        ConfigError: an unknown name, or images too small for the network.
    """
    check_name(name, "architecture")
    try:
        with torch.device("meta"):
            if name in _RESIDUAL:
                blocks, pooled = _RESIDUAL[name]
                return ResNet(blocks=blocks, pooled=pooled, channels=channels, image_size=image_size, classes=classes)
            if name in _OTHERS:
                return _OTHERS[name](channels=channels, image_size=image_size, classes=classes)
            depth = int(re.fullmatch(r"convnet(\d)", name).group(1))  # pyright: ignore[reportOptionalMemberAccess]
            return ConvNet(depth=depth, width=width, channels=channels, image_size=image_size, classes=classes)
    except ConfigError as error:
        raise ConfigError(f"{name} {error}", field="architecture") from None
