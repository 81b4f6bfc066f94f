"""Settings of the method: frozen, keyword-only dataclasses that check their ranges when created.

Defaults are those of the M3D paper (arXiv 2312.15927). Defaults of a data set are the business of the caller.
Errors name the field. A caller that keeps the settings in sections adds the section with ``ConfigError.within``.
"""

import math
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, get_args, get_origin

PRECISIONS = ("auto", "float32", "tf32", "bfloat16")
GEOMETRIC = ("crop", "scale", "rotate")
OPERATIONS = ("flip", "color", *GEOMETRIC, "cutout")


class ConfigError(ValueError):
    """A setting or an argument that is not allowed, in one line: what was given, what is allowed, what to do."""

    def __init__(self, text: str, *, field: str = "") -> None:
        """Args:
        text: the message without the field's name.
        field: name of the setting that is wrong, if it is one setting.
        """
        super().__init__(f"{field}: {text}" if field else text)
        self.text, self.field = text, field

    def named(self, field: str) -> "ConfigError":
        """The same error for a setting of another name."""
        return type(self)(self.text, field=field)

    def within(self, section: str) -> "ConfigError":
        """The same error with ``section.field`` for the field; unchanged without a field or if it names a section."""
        return self.named(f"{section}.{self.field}") if self.field and "." not in self.field else self


class CompilerError(ConfigError):
    """A compiler was requested, but this machine has none or it failed. The other settings are not to blame."""


LONGEST = 200
"""Largest number of characters of a value that a message repeats."""


def shown(value: Any) -> str:
    """The value as Python writes it, for a message: of a long one the beginning and the length."""
    try:
        text = repr(value[: LONGEST + 1] if isinstance(value, str) else value)
    except RecursionError:
        text = f"a nested {type(value).__name__}"
    if len(text) <= LONGEST:
        return text
    length = len(value) if isinstance(value, str) else len(text)
    return f"{text[: LONGEST - 40]}... ({length} characters)"


def check(name: str, value: Any, holds: bool, allowed: str) -> None:
    """Raises ConfigError with "name: given ..., allowed: ..." unless ``holds``."""
    if not holds:
        raise ConfigError(f"given {shown(value)}, allowed: {allowed}", field=name)


def positive(name: str, value: float) -> None:
    """Raises ConfigError unless ``value`` is finite and above 0."""
    check(name, value, math.isfinite(value) and value > 0, "a finite number above 0")


def at_least(name: str, value: int, least: int, most: int = 2**31 - 1) -> None:
    """Raises ConfigError unless ``value`` is an integer from ``least`` to ``most``.

    Give ``most`` for what memory is taken for: a count that no machine holds is a slip of the keyboard.
    """
    integer = isinstance(value, int) and not isinstance(value, bool)
    check(name, value, integer and least <= value <= most, f"an integer from {least} to {most}")


def check_choices(config: Any, section: str = "") -> None:
    """Raises ConfigError if a field that is a choice of words contains another word.

    Args:
        config: any of the dataclasses of settings.
        section: put before the fields' names, if given.
    """
    for choice in fields(config):
        if get_origin(choice.type) is Literal:
            allowed, value = get_args(choice.type), getattr(config, choice.name)
            name = f"{section}.{choice.name}" if section else choice.name
            check(name, value, value in allowed, ", ".join(allowed))


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """The kernel of the maximum mean discrepancy."""

    name: str = "gaussian"
    """Name of the kernel; docs/method.md lists all kernels."""
    bandwidth: Literal["mean", "median", "fixed"] = "mean"
    """Bandwidth of the kernels that have one: mean or median of the squared distances in the joint batch, or fixed."""
    bandwidth_value: float | None = None
    """Squared bandwidth b if ``bandwidth`` is fixed."""
    bandwidth_multiplier: float = 1.0
    """Factor of the bandwidth, whatever its origin."""
    scales: int = 5
    """Number of Gaussians that are summed. Their bandwidths are b * scale_factor**e for consecutive integers e from -(scales // 2)."""
    scale_factor: float = 2.0
    """Ratio of neighbouring bandwidths."""
    estimator: Literal["biased", "unbiased"] = "biased"
    """biased: the V-statistic of the paper; unbiased: without the diagonals, needs two images per side."""

    def __post_init__(self) -> None:
        check_choices(self)
        positive("bandwidth_multiplier", self.bandwidth_multiplier)
        at_least("scales", self.scales, 1)
        check("scales", self.scales, self.scales <= 64, "an integer from 1 to 64")
        check("scale_factor", self.scale_factor, 1 < self.scale_factor < 1e6, "a number above 1, below 1e6")
        widest = self.scale_factor ** (self.scales // 2)
        allowed = f"a number that keeps scale_factor ** (scales // 2) below 1e30 (scales is {self.scales})"
        check("scale_factor", self.scale_factor, widest < 1e30, allowed)
        value = self.bandwidth_value
        if self.bandwidth == "fixed":
            holds = value is not None and math.isfinite(value) and value > 0
            check("bandwidth_value", value, holds, "a number above 0 (bandwidth is fixed)")
        elif value is not None:
            text = f"given {value!r}, but bandwidth is {self.bandwidth!r}; set bandwidth to fixed to use it"
            raise ConfigError(text, field="bandwidth_value")


@dataclass(frozen=True, kw_only=True)
class Augment:
    """Differentiable augmentation: which operations, how strong, and how many of them at a time.

    Strengths are those of DSA (Zhao and Bilen, 2021).
    """

    strategy: str = "color_crop_cutout"
    """Operations joined by underscores, out of flip, color, crop, scale, rotate, cutout; or none."""
    pick: Literal["geometric", "any"] = "geometric"
    """geometric: one of crop, scale and rotate, plus all others (IDC); any: a single operation (DM)."""
    brightness: float = 1.0
    """Range of the number added to the normalised pixels: from -1/2 to 1/2 of it."""
    saturation: float = 2.0
    """Upper end of the factor of the distance from the grey value; the lower end is 0."""
    contrast: float = 0.5
    """Lower end of the factor of the distance from the image's mean; the upper end is 1 more."""
    crop_ratio: float = 0.125
    """Largest shift, as a fraction of the image's side."""
    cutout_ratio: float = 0.5
    """Side of the square that is cut out, as a fraction of the image's side."""
    scale_ratio: float = 1.2
    """Largest factor of a side; the smallest is 1 / scale_ratio."""
    rotate_degrees: float = 15.0
    """Largest rotation in degrees, in either direction."""
    flip_probability: float = 0.5
    """Probability of a horizontal flip, if `flip` is among the operations."""

    def __post_init__(self) -> None:
        check_choices(self)
        for name in self.operations:
            allowed = f"none, or a selection of {', '.join(OPERATIONS)} joined by underscores"
            check("strategy", self.strategy, name in OPERATIONS, allowed)
        for name in ("crop_ratio", "cutout_ratio", "flip_probability"):
            check(name, getattr(self, name), 0 <= getattr(self, name) <= 1, "a number from 0 to 1")
        for name in ("brightness", "saturation", "contrast"):
            check(name, getattr(self, name), 0 <= getattr(self, name) <= 100, "a number from 0 to 100")
        check("scale_ratio", self.scale_ratio, 1 <= self.scale_ratio <= 100, "a number from 1 to 100")
        check("rotate_degrees", self.rotate_degrees, 0 <= self.rotate_degrees <= 180, "a number from 0 to 180")

    @property
    def operations(self) -> tuple[str, ...]:
        """Names of the operations, without repetition, in the order of ``strategy``."""
        if self.strategy in ("", "none"):
            return ()
        return tuple(dict.fromkeys(self.strategy.split("_")))

    def without(self, operation: str) -> "Augment":
        """The same settings without one operation."""
        remaining = "_".join(name for name in self.operations if name != operation)
        return replace(self, strategy=remaining or "none")


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """The randomly initialised network whose features are matched."""

    name: str = "convnet3"
    """convnet1 to convnet8, resnetap10, resnet18, vgg11, alexnet, lenet, mlp or vit_tiny."""
    width: int = 128
    """Channels of a ConvNet's blocks; the other networks have fixed widths."""

    def __post_init__(self) -> None:
        at_least("width", self.width, 1, 2**14)


@dataclass(frozen=True, kw_only=True)
class Condense:
    """The schedule of the condensation."""

    images_per_class: int = 1
    """Stored images per class; each contains factor**2 views."""
    iterations: int = 10_000
    """Sweeps over all classes."""
    iterations_per_model: int = 5
    """Iterations between two draws of the encoder's weights."""
    batch_real: int = 128
    """Real images per class and iteration."""
    batch_synthetic_max: int = 200
    """Largest number of views per class and iteration; of more views, a random subset is used."""
    factor: int = 2
    """Tiles along a side of a stored image."""
    learning_rate: float | None = None
    """Learning rate of the pixels. Defaults to images_per_class: the loss averages over images, so gradients shrink as 1 / images_per_class."""
    momentum: float = 0.5
    """Momentum of the pixels."""
    pixel_step: Literal["reference", "plain"] = "reference"
    """reference: the published step, in which pixels coast through the other classes' steps; plain: one SGD step."""
    start: Literal["mix", "random", "noise"] = "mix"
    """Starting images: mosaics of factor**2 real images, one real image each, or noise."""
    precision: Literal["auto", "float32", "tf32", "bfloat16"] = "auto"
    """Precision of the encoder; auto: bfloat16 if the hardware has units for it, else float32."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Whether the encoder's passes are compiled; auto: if the run is long enough to benefit."""
    block: int = 0
    """Images per pass of the encoder; 0 chooses by their size and the device."""
    log_every: int = 50
    """Iterations between two logged losses."""

    def __post_init__(self) -> None:
        check_choices(self)
        for name in ("iterations", "iterations_per_model"):
            at_least(name, getattr(self, name), 1)
        for name in ("images_per_class", "batch_real", "batch_synthetic_max"):
            at_least(name, getattr(self, name), 1, 10**6)
        at_least("log_every", self.log_every, 1)
        at_least("block", self.block, 0)
        at_least("factor", self.factor, 1)
        check("factor", self.factor, self.factor <= 16, "an integer from 1 to 16")
        check("momentum", self.momentum, 0 <= self.momentum < 1, "a number from 0, below 1")
        if self.learning_rate is not None:
            positive("learning_rate", self.learning_rate)

    @property
    def step_size(self) -> float:
        """The learning rate in effect."""
        return float(self.images_per_class) if self.learning_rate is None else self.learning_rate

    @property
    def views(self) -> int:
        """Views of a class in one iteration."""
        return min(self.images_per_class * self.factor**2, self.batch_synthetic_max)


@dataclass(frozen=True, kw_only=True)
class Method:
    """All settings of the method: what is matched, and on which schedule. Defaults to those of the paper."""

    kernel: Kernel = field(default_factory=Kernel)
    augment: Augment = field(default_factory=Augment)
    encoder: Encoder = field(default_factory=Encoder)
    condense: Condense = field(default_factory=Condense)

    @property
    def matching(self) -> "Method":
        """The same kernel, augmentation and encoder with the default schedule, which the encoder's passes ignore."""
        return replace(self, condense=Condense())
