"""M3D: data-set condensation by minimising the maximum mean discrepancy, in plain PyTorch.

Five lines in a notebook::

    import m3d
    condensed = m3d.condense(images, labels, images_per_class=1, iterations=300)  # uint8 [n, C, H, W], int64 [n]
    train_images, train_labels = condensed.views()
"""

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
