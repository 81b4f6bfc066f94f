"""Moments that the published code of other projects normalises data sets with."""

from pipeline.formats.peers.peer_format import Moments

IMAGENET: Moments = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Moments of every subset of ImageNet."""
CIFAR10: Moments = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
BY_NAME: dict[str, Moments] = {
    "MNIST": ((0.1307,), (0.3081,)),
    "FashionMNIST": ((0.2861,), (0.3530,)),
    "SVHN": ((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)),
    "CIFAR10": CIFAR10,
    "CIFAR100": ((0.5071, 0.4866, 0.4409), (0.2673, 0.2564, 0.2762)),
}
"""Moments in DC's code, which DSA and DM share."""
