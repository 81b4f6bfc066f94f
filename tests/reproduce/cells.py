"""The cells of the table of results: what is condensed, how it is evaluated, and the published figures."""

from dataclasses import dataclass, replace

BASELINES = ("condensed", "random", "mosaic", "herding", "k_center", "class_mean")


SMALL = ("convnet3", "mlp", "alexnet")
"""Architectures for digits, whose images are too small for LeNet's published form.

VGG-11 does not learn its training images at 16 px in 100 epochs (docs/experiments.md).
"""


class OutOfTimeError(Exception):
    """The time of the call is used up; the same command resumes."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One condensed set with its evaluation."""

    name: str
    """Name of the cell and of its file docs/results/NAME.json."""
    preset: str
    settings: tuple[str, ...] = ()
    """Settings that differ from the preset, in the form of ``--set``."""
    data: str | None = None
    """Folder of the data, mnist or cifar10; None for digits."""
    architectures: tuple[str, ...] = ("convnet3",)
    sets: tuple[str, ...] = BASELINES
    seeds: int = 5
    trajectories: int = 0
    """ConvNet-3 networks trained on the whole set; 0 if that takes too long."""
    needs_gpu: bool = False
    """Whether the cell is skipped on a machine without a GPU."""
    comparable: bool = True
    """Whether published figures are shown; False if the schedule is shorter than the preset's."""


def _digits(images: int) -> Cell:
    settings = () if images in (1, 10) else (f"condense.images_per_class={images}",)
    preset = f"digits_ipc{images}" if images in (1, 10) else "digits_ipc1"
    return Cell(name=f"digits_ipc{images}", preset=preset, settings=settings, architectures=SMALL, trajectories=5)


def _mnist(images: int) -> Cell:
    name = f"mnist_ipc{images}"
    return Cell(name=name, preset=name, data="mnist", architectures=("convnet3", "mlp", "lenet"), trajectories=1)


def _mnist_in_an_hour(images: int, epochs: int) -> Cell:
    """MNIST with a shorter schedule: both such cells together take two CPU cores about an hour."""
    settings = ("condense.iterations=1000", f"evaluate.epochs={epochs}")
    return replace(_mnist(images), name=f"mnist_ipc{images}_short", settings=settings, comparable=False)


def _cifar10(images: int) -> Cell:
    whole = 1 if images == 10 else 0  # once is enough: all cells share this network, and it takes a CPU 18 minutes
    return Cell(name=f"cifar10_ipc{images}", preset=f"cifar10_ipc{images}", data="cifar10", trajectories=whole)


def _other_seeds(cell: Cell) -> list[Cell]:
    return [
        replace(
            cell,
            name=f"{cell.name}_seed{seed}",
            settings=(*cell.settings, f"seed={seed}"),
            trajectories=0,
            needs_gpu=True,
        )
        for seed in (1, 2)
    ]


CELLS = (
    *(_digits(images) for images in (1, 5, 10)),
    _mnist_in_an_hour(1, epochs=1000),
    _mnist_in_an_hour(10, epochs=100),
    *(_mnist(images) for images in (1, 10)),
    *(_cifar10(images) for images in (1, 10, 50)),
    *(other for images in (1, 10, 50) for other in _other_seeds(_cifar10(images))),
)

PUBLISHED = {
    ("cifar10_ipc1", "convnet3"): {"condensed": 45.3, "random": 14.4, "herding": 21.5, "whole": 84.8},
    ("cifar10_ipc10", "convnet3"): {"condensed": 63.5, "random": 26.0, "herding": 31.6, "whole": 84.8},
    ("cifar10_ipc50", "convnet3"): {"condensed": 69.9, "random": 43.4, "herding": 40.4, "whole": 84.8},
    ("mnist_ipc1", "convnet3"): {"condensed": 94.4},
    ("mnist_ipc10", "convnet3"): {"condensed": 97.6},
    ("mnist_ipc50", "convnet3"): {"condensed": 98.2},
}
"""Test accuracies in percent by preset and architecture: M3D's (arXiv 2312.15927) for condensed, its tables for the baselines."""
