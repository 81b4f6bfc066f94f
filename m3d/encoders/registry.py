"""Networks by name, with fresh seeded weights."""

import difflib
import re

import torch

from m3d.config import ConfigError
from m3d.encoders.convnet import ConvNet
from m3d.encoders.network import Network, initialise
from m3d.encoders.plain import AlexNet, LeNet, Mlp, Vgg11
from m3d.encoders.resnet import ResNet
from m3d.encoders.vit import VitTiny

_RESIDUAL = {"resnetap10": (1, True), "resnet18": (2, False)}
_OTHERS = {"vgg11": Vgg11, "alexnet": AlexNet, "lenet": LeNet, "mlp": Mlp, "vit_tiny": VitTiny}


def names() -> list[str]:
    """Every name that ``build`` takes."""
    return [f"convnet{depth}" for depth in range(1, 9)] + list(_RESIDUAL) + list(_OTHERS)


def check_name(name: str, key: str) -> None:
    """Raises ConfigError with the nearest name where ``name`` is none; ``key`` is the setting to blame."""
    if name not in names():
        near = difflib.get_close_matches(name, names(), n=1, cutoff=0.0)[0]
        raise ConfigError(
            f"{key}: given {name!r}, allowed: convnet1 to convnet8, {', '.join([*_RESIDUAL, *_OTHERS])}; did you mean {near!r}?"
        )


def is_residual(name: str) -> bool:
    """Whether it is a residual network, whose convolutions are drawn by fan out."""
    return name in _RESIDUAL


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
        device: where the weights live.

    Raises:
        ConfigError: an unknown name, or images too small for the network.
    """
    network = architecture(name, channels=channels, image_size=image_size, classes=classes, width=width)
    network = network.to_empty(device=device)
    initialise(network, generator, fan_out=is_residual(name))
    return network


def architecture(name: str, *, channels: int, image_size: int, classes: int, width: int = 128) -> Network:
    """A network without weights, on the meta device: its shapes and what it costs. Arguments as for ``build``."""
    check_name(name, "architecture")
    with torch.device("meta"):
        if is_residual(name):
            blocks, pooled = _RESIDUAL[name]
            return ResNet(
                blocks=blocks, pooled=pooled, channels=channels, image_size=image_size, classes=classes, name=name
            )
        if name in _OTHERS:
            return _OTHERS[name](channels=channels, image_size=image_size, classes=classes)
        depth = int(re.fullmatch(r"convnet(\d)", name).group(1))  # pyright: ignore[reportOptionalMemberAccess]
        return ConvNet(depth=depth, width=width, channels=channels, image_size=image_size, classes=classes)
