"""Names of the networks, readable without importing torch."""

import difflib

from m3d.config import ConfigError, shown

CONVNETS = tuple(f"convnet{depth}" for depth in range(1, 9))
OTHERS = ("resnetap10", "resnet18", "vgg11", "alexnet", "lenet", "mlp", "vit_tiny")


def names() -> list[str]:
    """Every name that ``build`` accepts."""
    return [*CONVNETS, *OTHERS]


def check_name(name: str, field: str) -> None:
    """Raises ConfigError with the nearest name if no network has this name.

    Args:
        name: to check.
        field: name of the setting to blame.
    """
    if name not in names():
        near = difflib.get_close_matches(name, names(), n=1, cutoff=0.0)[0]
        allowed = f"{CONVNETS[0]} to {CONVNETS[-1]}, {', '.join(OTHERS)}"
        raise ConfigError(f"given {shown(name)}, allowed: {allowed}; did you mean {near!r}?", field=field)
