"""M3D: data-set condensation by minimising the maximum mean discrepancy, in plain PyTorch.

Five lines in a notebook::

    import m3d
    condensed = m3d.condense(images, labels, images_per_class=1, iterations=300)  # uint8 [n, C, H, W], int64 [n]
    train_images, train_labels = condensed.views()
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from m3d.condenser import Condenser
    from m3d.config import Augment, Condense, ConfigError, Encoder, Evaluate, Kernel, Train
    from m3d.formation import decode, mosaic
    from m3d.images.class_images import ClassImages
    from m3d.images.image_parts import ImageParts
    from m3d.images.streamed_images import StreamedImages
    from m3d.loop import NotFiniteError, Step, condense, iterate, moments
    from m3d.mmd import mmd2
    from m3d.shapes import ShapeError
    from m3d.start import images_needed, starting_images
    from m3d.state import Condensed, CondenseState, Outcome, standardise
    from m3d.training.ensemble import train_together
    from m3d.training.protocols import PROTOCOLS, imagenet_epochs, training_of
    from m3d.training.scoring import Score, TestSet, accuracy, confusion, train_and_score, trials, trials_together
    from m3d.training.trainer import Trainer, train

__all__ = [
    "Augment",
    "ClassImages",
    "Condense",
    "CondenseState",
    "Condensed",
    "Condenser",
    "ConfigError",
    "Encoder",
    "Evaluate",
    "ImageParts",
    "Kernel",
    "NotFiniteError",
    "Outcome",
    "PROTOCOLS",
    "Score",
    "ShapeError",
    "Step",
    "StreamedImages",
    "TestSet",
    "Trainer",
    "Train",
    "accuracy",
    "condense",
    "confusion",
    "decode",
    "imagenet_epochs",
    "images_needed",
    "iterate",
    "mmd2",
    "moments",
    "mosaic",
    "standardise",
    "starting_images",
    "train",
    "train_and_score",
    "train_together",
    "training_of",
    "trials",
    "trials_together",
]

_MODULES = {
    "Condenser": "m3d.condenser",
    "Augment": "m3d.config",
    "Condense": "m3d.config",
    "ConfigError": "m3d.config",
    "Encoder": "m3d.config",
    "Evaluate": "m3d.config",
    "Kernel": "m3d.config",
    "Train": "m3d.config",
    "decode": "m3d.formation",
    "mosaic": "m3d.formation",
    "ClassImages": "m3d.images.class_images",
    "ImageParts": "m3d.images.image_parts",
    "StreamedImages": "m3d.images.streamed_images",
    "NotFiniteError": "m3d.loop",
    "Step": "m3d.loop",
    "condense": "m3d.loop",
    "iterate": "m3d.loop",
    "moments": "m3d.loop",
    "mmd2": "m3d.mmd",
    "ShapeError": "m3d.shapes",
    "images_needed": "m3d.start",
    "starting_images": "m3d.start",
    "Condensed": "m3d.state",
    "CondenseState": "m3d.state",
    "Outcome": "m3d.state",
    "standardise": "m3d.state",
    "train_together": "m3d.training.ensemble",
    "PROTOCOLS": "m3d.training.protocols",
    "imagenet_epochs": "m3d.training.protocols",
    "training_of": "m3d.training.protocols",
    "Score": "m3d.training.scoring",
    "TestSet": "m3d.training.scoring",
    "accuracy": "m3d.training.scoring",
    "confusion": "m3d.training.scoring",
    "train_and_score": "m3d.training.scoring",
    "trials": "m3d.training.scoring",
    "trials_together": "m3d.training.scoring",
    "Trainer": "m3d.training.trainer",
    "train": "m3d.training.trainer",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'm3d' has no attribute {name!r}")
    value = getattr(importlib.import_module(_MODULES[name]), name)
    globals()[name] = value
    return value
