"""M3D: data-set condensation by minimising the maximum mean discrepancy, in plain PyTorch.

Five lines in a notebook::

    import m3d
    condensed = m3d.condense(images, labels, images_per_class=1, iterations=300)  # uint8 [n, C, H, W], int64 [n]
    train_images, train_labels = condensed.views()

``__all__`` is the public API. Its names are imported when they are first used, so that ``import m3d`` does not import
torch. Names of submodules may change between versions.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from m3d.condenser import Condenser
    from m3d.config import Augment, CompilerError, Condense, ConfigError, Encoder, Kernel, Method
    from m3d.formation import decode, mosaic
    from m3d.images.class_images import ClassImages
    from m3d.images.image_parts import ImageParts
    from m3d.images.real_images import RealImages
    from m3d.images.streamed_images import StreamedImages
    from m3d.kernels import KernelSpec
    from m3d.loop import NotFiniteError, Step, condense, iterate, moments
    from m3d.mmd import mmd2
    from m3d.shapes import ShapeError
    from m3d.start import images_needed, starting_images
    from m3d.state import Condensed, CondenseState, Outcome, standardise
    from m3d.training.ensemble import train_together
    from m3d.training.protocols import PROTOCOLS, imagenet_epochs, training_of
    from m3d.training.scoring import (
        Keeper,
        Score,
        TestSet,
        accuracy,
        confusion,
        train_and_score,
        trials,
        trials_together,
    )
    from m3d.training.settings import Evaluate, Recipe, Train, WholeTrain
    from m3d.training.trainer import Trainer, train
    from m3d.training.whole_set import RowImages, WholeSetTrainer

__all__ = [
    # Condense a data set.
    "condense",
    "Condensed",
    "moments",
    # The settings of the method.
    "Method",
    "Kernel",
    "Augment",
    "Encoder",
    "Condense",
    # Condense step by step, with your own loop, checkpoints and storage of the images.
    "Condenser",
    "CondenseState",
    "iterate",
    "Step",
    "Outcome",
    "RealImages",
    "ClassImages",
    "StreamedImages",
    "ImageParts",
    "images_needed",
    "starting_images",
    # The parts of the method.
    "mmd2",
    "KernelSpec",
    "decode",
    "mosaic",
    "standardise",
    # Train networks on a set, and score them.
    "Evaluate",
    "Train",
    "Recipe",
    "PROTOCOLS",
    "training_of",
    "imagenet_epochs",
    "train",
    "Trainer",
    "train_together",
    "train_and_score",
    "trials",
    "trials_together",
    "Keeper",
    "TestSet",
    "Score",
    "accuracy",
    "confusion",
    # Train networks on the full training set.
    "WholeTrain",
    "RowImages",
    "WholeSetTrainer",
    # Errors.
    "ConfigError",
    "CompilerError",
    "ShapeError",
    "NotFiniteError",
]

DISTRIBUTION = "m3d-condense"
"""The project that this package belongs to; there are others of its name."""

_NAMES = {
    "condenser": ("Condenser",),
    "config": ("Augment", "CompilerError", "Condense", "ConfigError", "Encoder", "Kernel", "Method"),
    "formation": ("decode", "mosaic"),
    "images.class_images": ("ClassImages",),
    "images.image_parts": ("ImageParts",),
    "images.real_images": ("RealImages",),
    "images.streamed_images": ("StreamedImages",),
    "kernels": ("KernelSpec",),
    "loop": ("NotFiniteError", "Step", "condense", "iterate", "moments"),
    "mmd": ("mmd2",),
    "shapes": ("ShapeError",),
    "start": ("images_needed", "starting_images"),
    "state": ("CondenseState", "Condensed", "Outcome", "standardise"),
    "training.ensemble": ("train_together",),
    "training.protocols": ("PROTOCOLS", "imagenet_epochs", "training_of"),
    "training.scoring": (
        "Keeper",
        "Score",
        "TestSet",
        "accuracy",
        "confusion",
        "train_and_score",
        "trials",
        "trials_together",
    ),
    "training.settings": ("Evaluate", "Recipe", "Train", "WholeTrain"),
    "training.trainer": ("Trainer", "train"),
    "training.whole_set": ("RowImages", "WholeSetTrainer"),
}
"""Public names by the module that defines them."""

_MODULES = {name: module for module, names in _NAMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(f"m3d.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'm3d' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
