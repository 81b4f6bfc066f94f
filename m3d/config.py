"""Settings of the method: frozen, keyword-only dataclasses that check their ranges when made.

Paper defaults come from M3D (arXiv 2312.15927); what the defaults of a data set are is said by the
presets of the pipeline, not here.
"""

import math
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, get_args, get_origin

PRECISIONS = ("auto", "float32", "tf32", "bfloat16")
GEOMETRIC = ("crop", "scale", "rotate")
SETS = ("condensed", "random", "mosaic", "herding", "k_center", "class_mean", "whole")
OPERATIONS = ("flip", "color", *GEOMETRIC, "cutout")


class ConfigError(ValueError):
    """A setting outside its range: says what was given, what is allowed, and what to do where that helps."""


class CompilerError(ConfigError):
    """A compiler is asked for, and this machine has none or it failed: no fault of the other settings."""


def check(name: str, given: Any, holds: bool, allowed: str) -> None:
    """Raises ConfigError with "name: given ..., allowed ..." unless ``holds``."""
    if not holds:
        raise ConfigError(f"{name}: given {given!r}, allowed: {allowed}")


def positive(name: str, given: float) -> None:
    """Raises ConfigError unless ``given`` is finite and above 0."""
    check(name, given, math.isfinite(given) and given > 0, "a finite number above 0")


def at_least(name: str, given: int, least: int) -> None:
    """Raises ConfigError unless ``given`` is an integer of at least ``least``, below 2**31."""
    whole = isinstance(given, int) and not isinstance(given, bool)
    check(name, given, whole and least <= given < 2**31, f"an integer from {least} to 2147483647")


def check_choices(config: Any, section: str) -> None:
    """Raises ConfigError where a field that is a choice of words holds another word."""
    for one in fields(config):
        if get_origin(one.type) is Literal:
            allowed = get_args(one.type)
            check(
                f"{section}.{one.name}",
                getattr(config, one.name),
                getattr(config, one.name) in allowed,
                ", ".join(allowed),
            )


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """The kernel of the maximum mean discrepancy."""

    name: str = "gaussian"
    """gaussian, linear, polynomial or laplace."""
    bandwidth: Literal["mean", "median", "fixed"] = "mean"
    """How the Gaussian's bandwidth follows from the squared distances of the joint batch, or that it is fixed."""
    bandwidth_value: float | None = None
    """The squared bandwidth b when ``bandwidth`` is fixed."""
    bandwidth_multiplier: float = 1.0
    """Multiplies the bandwidth, whatever its origin."""
    scales: int = 5
    """Gaussians in the bank, at b scale_factor**e with exponents e from -(scales // 2) up: symmetric where odd."""
    scale_factor: float = 2.0
    """Ratio of neighbouring bandwidths in the bank."""
    estimator: Literal["biased", "unbiased"] = "biased"
    """biased is the V-statistic of the paper; unbiased leaves the diagonals out and needs two images a side."""

    def __post_init__(self) -> None:
        check_choices(self, "kernel")
        positive("kernel.bandwidth_multiplier", self.bandwidth_multiplier)
        at_least("kernel.scales", self.scales, 1)
        check("kernel.scales", self.scales, self.scales <= 64, "an integer from 1 to 64")
        check("kernel.scale_factor", self.scale_factor, 1 < self.scale_factor < 1e6, "a number above 1, below 1e6")
        widest = self.scale_factor ** (self.scales // 2)
        allowed = f"a number that keeps scale_factor ** (scales // 2) below 1e30 (scales is {self.scales})"
        check("kernel.scale_factor", self.scale_factor, widest < 1e30, allowed)
        if self.bandwidth == "fixed":
            given = self.bandwidth_value
            holds = given is not None and math.isfinite(given) and given > 0
            check("kernel.bandwidth_value", given, holds, "a number above 0 (kernel.bandwidth is fixed)")
        elif self.bandwidth_value is not None:
            raise ConfigError(
                f"kernel.bandwidth_value: given {self.bandwidth_value!r}, but kernel.bandwidth is "
                f"{self.bandwidth!r}; set kernel.bandwidth=fixed to use it"
            )


@dataclass(frozen=True, kw_only=True)
class Augment:
    """Differentiable augmentation: which operations, how strong, and how many of them at a time.

    Strengths are those of DSA (Zhao and Bilen, 2021).
    """

    strategy: str = "color_crop_cutout"
    """Operations joined by underscores out of flip, color, crop, scale, rotate, cutout; or none."""
    pick: Literal["geometric", "any"] = "geometric"
    """geometric: one of crop, scale and rotate, and all others (IDC); any: one single operation (DM)."""
    brightness: float = 1.0
    """Range of the offset added to the normalised pixels, which is drawn from -1/2 to 1/2 of it."""
    saturation: float = 2.0
    """Upper bound of the factor on a pixel's distance from its grey value, which is drawn from 0 to it."""
    contrast: float = 0.5
    """Lower bound of the factor on a pixel's distance from the image's mean, which is drawn from it to it plus 1."""
    crop_ratio: float = 0.125
    """Largest shift, as a part of the image's side."""
    cutout_ratio: float = 0.5
    """Side of the square that is cut out, as a part of the image's side."""
    scale_ratio: float = 1.2
    """Bound of the scaling: each side is scaled by a factor from 1 / ratio to ratio."""
    rotate_degrees: float = 15.0
    """Largest rotation in either direction, in degrees."""
    flip_probability: float = 0.5
    """Probability of a horizontal flip, if flip is among the operations."""

    def __post_init__(self) -> None:
        check_choices(self, "augment")
        for name in self.operations:
            allowed = f"none, or a selection of {', '.join(OPERATIONS)} joined by underscores"
            check("augment.strategy", self.strategy, name in OPERATIONS, allowed)
        for name in ("crop_ratio", "cutout_ratio", "flip_probability"):
            given = getattr(self, name)
            check(f"augment.{name}", given, 0 <= given <= 1, "a number from 0 to 1")
        for name in ("brightness", "saturation", "contrast"):
            given = getattr(self, name)
            check(f"augment.{name}", given, 0 <= given <= 100, "a number from 0 to 100")
        check("augment.scale_ratio", self.scale_ratio, 1 <= self.scale_ratio <= 100, "a number from 1 to 100")
        check("augment.rotate_degrees", self.rotate_degrees, 0 <= self.rotate_degrees <= 180, "a number from 0 to 180")

    @property
    def operations(self) -> tuple[str, ...]:
        """Names of the operations, without repetition, in the order written."""
        if self.strategy in ("", "none"):
            return ()
        return tuple(dict.fromkeys(self.strategy.split("_")))

    def without(self, operation: str) -> "Augment":
        """The same settings less one operation."""
        kept = "_".join(name for name in self.operations if name != operation)
        return replace(self, strategy=kept or "none")


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """The randomly initialised network whose features are matched."""

    name: str = "convnet3"
    """convnet1 to convnet8, resnetap10, resnet18, vgg11, alexnet, lenet, mlp or vit_tiny."""
    width: int = 128
    """Channels of a ConvNet's blocks; the residual networks have widths of their own."""

    def __post_init__(self) -> None:
        at_least("encoder.width", self.width, 1)


@dataclass(frozen=True, kw_only=True)
class Condense:
    """The schedule of the condensation."""

    images_per_class: int = 1
    """Stored images of a class; each holds factor**2 views."""
    iterations: int = 10_000
    """Sweeps over all classes."""
    iterations_per_model: int = 5
    """Iterations until the encoder is drawn anew."""
    batch_real: int = 128
    """Real images of a class in an iteration."""
    batch_synthetic_max: int = 200
    """Views of a class in an iteration; with more, a random subset is taken."""
    factor: int = 2
    """Tiles along a side of a stored image."""
    learning_rate: float | None = None
    """Of the pixels; images_per_class when not given, since the loss's mean makes gradients fall as 1 / images."""
    momentum: float = 0.5
    """Momentum of the pixels' step."""
    pixel_step: Literal["reference", "plain"] = "reference"
    """reference: the published step, in which pixels coast through the other classes' steps; plain: one SGD step."""
    start: Literal["mix", "random", "noise"] = "mix"
    """Starting images: mosaics of factor**2 real images, one real image each, or noise."""
    precision: Literal["auto", "float32", "tf32", "bfloat16"] = "auto"
    """Precision of the encoder. auto is bfloat16 on hardware with units for it, else float32."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Whether the encoder's passes are compiled; auto does it where the run is long enough to gain by it."""
    block: int = 0
    """Images that the encoder takes at once; 0 chooses by their size and the device."""
    log_every: int = 50
    """Iterations between two loss values."""

    def __post_init__(self) -> None:
        check_choices(self, "condense")
        for name in ("images_per_class", "iterations", "iterations_per_model", "batch_real", "batch_synthetic_max"):
            at_least(f"condense.{name}", getattr(self, name), 1)
        at_least("condense.log_every", self.log_every, 1)
        at_least("condense.block", self.block, 0)
        at_least("condense.factor", self.factor, 1)
        check("condense.factor", self.factor, self.factor <= 16, "an integer from 1 to 16")
        check("condense.momentum", self.momentum, 0 <= self.momentum < 1, "a number from 0, below 1")
        if self.learning_rate is not None:
            positive("condense.learning_rate", self.learning_rate)

    @property
    def step_size(self) -> float:
        """The learning rate in force."""
        return float(self.images_per_class) if self.learning_rate is None else self.learning_rate

    @property
    def views(self) -> int:
        """Views of a class in one iteration."""
        return min(self.images_per_class * self.factor**2, self.batch_synthetic_max)


@dataclass(frozen=True, kw_only=True)
class Train:
    """How one network is trained on an image set."""

    epochs: int
    batch: int
    learning_rate: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4
    milestones: tuple[float, ...] = (2 / 3, 5 / 6)
    """Parts of the epochs after which the learning rate is multiplied by ``decay``."""
    decay: float = 0.2
    augment: Augment = field(default_factory=Augment)
    cutmix_probability: float = 0.0
    cutmix_beta: float = 1.0

    def __post_init__(self) -> None:
        at_least("train.epochs", self.epochs, 1)
        at_least("train.batch", self.batch, 1)
        positive("train.learning_rate", self.learning_rate)
        positive("train.cutmix_beta", self.cutmix_beta)
        check("train.momentum", self.momentum, 0 <= self.momentum < 1, "a number from 0, below 1")
        check("train.weight_decay", self.weight_decay, 0 <= self.weight_decay < 1, "a number from 0, below 1")
        check("train.decay", self.decay, 0 < self.decay <= 1, "a number above 0, up to 1")
        check(
            "train.milestones",
            self.milestones,
            all(0 < part <= 1 for part in self.milestones),
            "numbers above 0, up to 1",
        )
        given = self.cutmix_probability
        check("train.cutmix_probability", given, 0 <= given <= 1, "a number from 0 to 1")


@dataclass(frozen=True, kw_only=True)
class WholeTrain:
    """How one network is trained on a whole set of images."""

    epochs: int
    batch: int
    """Images of one step, over all workers together."""
    learning_rate: float
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: Literal["cosine", "steps"] = "cosine"
    """cosine: the rate falls to 0 along half a cosine; steps: it is multiplied by 0.2 after 1/2, 3/4 and 7/8."""
    warmup: float = 0.1
    """Part of all steps in which the rate rises linearly."""
    augment: Augment = field(default_factory=lambda: Augment(strategy="crop_flip"))

    def __post_init__(self) -> None:
        check_choices(self, "pretrain")
        at_least("pretrain.epochs", self.epochs, 1)
        at_least("pretrain.batch", self.batch, 1)
        positive("pretrain.learning_rate", self.learning_rate)
        check("pretrain.momentum", self.momentum, 0 <= self.momentum < 1, "a number from 0, below 1")
        check("pretrain.weight_decay", self.weight_decay, 0 <= self.weight_decay < 1, "a number from 0, below 1")
        check("pretrain.warmup", self.warmup, 0 <= self.warmup < 1, "a number from 0, below 1")


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Networks trained on the condensed set, and how."""

    protocol: Literal["idc", "dm", "imagenet", "imagenet100"] = "idc"
    """idc: 1000 epochs, batch 64, CutMix (M3D, DANCE); dm: 1000 epochs, batch 256, no CutMix (DM); imagenet, imagenet100: IDC's at 224 px."""
    epochs: int | None = None
    """The protocol's own number when not given."""
    seeds: int = 3
    """Number of networks per set and architecture; their seeds are 0, 1, ..."""
    architectures: tuple[str, ...] = ("convnet3",)
    """Networks to train, by name."""
    flip: bool = True
    """Whether images may be mirrored; false for digits."""
    augment: Literal["protocol", "none"] = "protocol"
    """none: the protocol without augmentation and without CutMix, a row of its own."""
    labels: Literal["hard", "soft"] = "hard"
    """soft: class probabilities of a teacher that `pretrain` has stored in the run's folder, in rows of their own."""
    sets: tuple[str, ...] = ("condensed", "random", "mosaic")
    """Training sets that `run` compares: condensed, random, mosaic, herding, k_center, class_mean or whole."""
    best_epoch: int = 0
    """Epochs between two looks at the accuracy, for a figure labelled best_epoch_compatibility; 0 never looks. Nothing is chosen by it."""
    together: int = 0
    """Networks of different seeds that are trained as one, their weights stacked; 1 trains one after another, 0 chooses. With soft labels or best_epoch they go one after another."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Whether the networks are compiled; auto does it where the training is long enough to gain by it."""
    on: Literal["test", "validation"] = "test"
    """validation looks at the part of the training data that data.validation_fraction holds out."""

    def __post_init__(self) -> None:
        check_choices(self, "evaluate")
        at_least("evaluate.seeds", self.seeds, 1)
        if self.epochs is not None:
            at_least("evaluate.epochs", self.epochs, 1)
        at_least("evaluate.best_epoch", self.best_epoch, 0)
        at_least("evaluate.together", self.together, 0)
        allowed = ", ".join(SETS)
        check("evaluate.sets", list(self.sets), bool(self.sets) and set(self.sets) <= set(SETS), f"some of {allowed}")
        check("evaluate.architectures", list(self.architectures), len(self.architectures) > 0, "at least one name")
