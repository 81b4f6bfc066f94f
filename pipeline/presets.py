"""Presets: a preset is a function that returns a whole RunConfig; ``PRESETS`` holds them by name.

The MNIST and CIFAR ones are the published schedule (M3D: 10,000 iterations, 5 per model, 128 real images,
factor 2, learning rate = images per class). digits is a data set of this project's own, small enough for a CPU.
"""

from collections.abc import Callable
from dataclasses import replace

from m3d.config import Condense, Evaluate
from pipeline.config import Data, RunConfig
from pipeline.errors import UserError, nearest

DEFAULT = "digits_ipc1"


def digits(images_per_class: int) -> RunConfig:
    """scikit-learn's 1,797 handwritten digits, enlarged from 8 to 16 px: a run of under a minute on two cores."""
    return RunConfig(
        data=Data(source="digits", image_size=16),
        condense=Condense(images_per_class=images_per_class, iterations=60, log_every=10),
        evaluate=Evaluate(epochs=100, flip=False),
    )


def mnist(images_per_class: int) -> RunConfig:
    """MNIST at 28 px."""
    return RunConfig(
        data=Data(source="torchvision", name="MNIST", image_size=28),
        condense=Condense(images_per_class=images_per_class),
        evaluate=Evaluate(flip=False),
    )


def cifar10(images_per_class: int) -> RunConfig:
    """CIFAR-10 at 32 px."""
    return RunConfig(
        data=Data(source="torchvision", name="CIFAR10", image_size=32),
        condense=Condense(images_per_class=images_per_class),
    )


def cifar100(images_per_class: int) -> RunConfig:
    """CIFAR-100 at 32 px, with the settings of CIFAR-10."""
    base = cifar10(images_per_class)
    return replace(base, data=replace(base.data, name="CIFAR100"))


_FAMILIES: dict[str, tuple[Callable[[int], RunConfig], tuple[int, ...]]] = {
    "digits": (digits, (1, 10)),
    "mnist": (mnist, (1, 10, 50)),
    "cifar10": (cifar10, (1, 10, 50)),
    "cifar100": (cifar100, (1, 10, 50)),
}

PRESETS: dict[str, tuple[Callable[[int], RunConfig], int]] = {
    f"{name}_ipc{images}": (make, images) for name, (make, counts) in _FAMILIES.items() for images in counts
}


def preset(name: str) -> RunConfig:
    """The whole configuration of a preset. Raises UserError with the nearest name."""
    if name not in PRESETS:
        raise UserError(f"--preset {name}: is unknown, allowed: {', '.join(PRESETS)}{nearest(name, PRESETS)}")
    make, images = PRESETS[name]
    return make(images)
