"""Settings of trainings: of one network on a condensed set, on a full training set, and of an evaluation."""

from dataclasses import dataclass, field
from typing import Literal

from m3d.config import Augment, at_least, check, check_choices, positive

MOST_NETWORKS = 10_000
"""Most networks of a set and architecture, and most trajectories."""


@dataclass(frozen=True, kw_only=True)
class Train:
    """How one network is trained on an image set."""

    epochs: int
    batch: int
    learning_rate: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4
    milestones: tuple[float, ...] = (2 / 3, 5 / 6)
    """Fractions of the epochs after which the learning rate is multiplied by ``decay``."""
    decay: float = 0.2
    augment: Augment = field(default_factory=Augment)
    cutmix_probability: float = 0.0
    """Probability of CutMix in a step."""
    cutmix_beta: float = 1.0
    """Both parameters of the beta distribution that an image's own share is drawn from."""

    def __post_init__(self) -> None:
        _check_sgd(self)
        positive("cutmix_beta", self.cutmix_beta)
        check("decay", self.decay, 0 < self.decay <= 1, "a number above 0, up to 1")
        in_range = all(0 < fraction <= 1 for fraction in self.milestones)
        check("milestones", self.milestones, in_range, "numbers above 0, up to 1")
        probability = self.cutmix_probability
        check("cutmix_probability", probability, 0 <= probability <= 1, "a number from 0 to 1")


@dataclass(frozen=True, kw_only=True)
class WholeTrain:
    """How one network is trained on the full training set."""

    epochs: int
    batch: int
    """Images per step, over all workers together."""
    learning_rate: float
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: Literal["cosine", "steps"] = "cosine"
    """cosine: the rate falls to 0 along half a cosine; steps: it is multiplied by 0.2 after 1/2, 3/4 and 7/8."""
    warmup: float = 0.1
    """Fraction of all steps in which the rate rises linearly."""
    augment: Augment = field(default_factory=lambda: Augment(strategy="crop_flip"))

    def __post_init__(self) -> None:
        check_choices(self)
        _check_sgd(self)
        check("warmup", self.warmup, 0 <= self.warmup < 1, "a number from 0, below 1")


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Which networks are trained on a condensed set, and how: ``training_of`` turns it into a ``Train``."""

    protocol: Literal["idc", "dm", "imagenet", "imagenet100"] = "idc"
    """idc: 1000 epochs, batch 64, CutMix (M3D, DANCE); dm: 1000 epochs, batch 256, no CutMix (DM); imagenet, imagenet100: IDC's at 224 px."""
    epochs: int | None = None
    """Epochs of the networks. Defaults to the protocol's own number."""
    seeds: int = 3
    """Networks per set and architecture, with seeds 0, 1, ..."""
    architectures: tuple[str, ...] = ("convnet3",)
    """Names of the networks that are trained."""
    flip: bool = True
    """Whether images may be mirrored; false for digits."""
    augment: Literal["protocol", "none"] = "protocol"
    """none: the protocol without augmentation and without CutMix, in separate rows."""

    def __post_init__(self) -> None:
        check_choices(self)
        at_least("seeds", self.seeds, 1, MOST_NETWORKS)
        if self.epochs is not None:
            at_least("epochs", self.epochs, 1)
        check("architectures", list(self.architectures), len(self.architectures) > 0, "at least one name")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A network and its training: what ``trials`` repeats for every seed."""

    architecture: str
    """A name that ``m3d.encoders.build`` knows."""
    training: Train
    precision: str = "float32"
    """auto, float32, tf32 or bfloat16."""
    compiled: bool = False
    """Whether the network is compiled."""


def _check_sgd(config: Train | WholeTrain) -> None:
    at_least("epochs", config.epochs, 1)
    at_least("batch", config.batch, 1, 10**6)
    positive("learning_rate", config.learning_rate)
    check("momentum", config.momentum, 0 <= config.momentum < 1, "a number from 0, below 1")
    check("weight_decay", config.weight_decay, 0 <= config.weight_decay < 1, "a number from 0, below 1")
