"""What the normalised files of other projects were normalised with: the moments in their published code."""

from pipeline.config.run_config import Data

Moments = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation by channel, of pixels in [0, 1]."""

IMAGENET: Moments = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CIFAR10: Moments = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
BY_NAME: dict[str, Moments] = {
    "MNIST": ((0.1307,), (0.3081,)),
    "FashionMNIST": ((0.2861,), (0.3530,)),
    "SVHN": ((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)),
    "CIFAR10": CIFAR10,
    "CIFAR100": ((0.5071, 0.4866, 0.4409), (0.2673, 0.2564, 0.2762)),
}
"""In DC's code, which DSA and DM share."""
BY_LAYOUT: dict[str, dict[str, Moments]] = {"dc": BY_NAME, "mtt": {**BY_NAME, "CIFAR100": CIFAR10}}
"""MTT's code normalises CIFAR-100 with the moments of CIFAR-10."""


def published_moments(layout: str, data: Data) -> Moments | None:
    """Of a file of that layout on that data set; None where nothing is known."""
    if data.subset:
        return IMAGENET
    return BY_LAYOUT[layout].get(data.name or "")
