"""What a search varies: a range or a list of values for each setting. No Ray here.

To search another setting by default, add it to ``default_space`` and to the list in docs/tuning.md.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Any

from pipeline.config.parsing import to_dict, with_settings
from pipeline.config.run_config import RunConfig
from pipeline.errors import UserError

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

GRID_POINTS = 5
"""Values of a range that a grid takes."""
RATE = "condense.learning_rate"

Values = dict[str, Any]
"""A point of the space: the value of every key that is searched, absolute, as in ``--set``."""


@dataclass(frozen=True, kw_only=True)
class Domain:
    """The values that one key may have: a range with its bounds, or a list."""

    kind: str
    """uniform, loguniform, choice or grid."""
    low: float = 0.0
    high: float = 0.0
    values: tuple[Any, ...] = ()
    whole: bool = False
    """Whether a range is of integers, both bounds included."""

    @property
    def is_range(self) -> bool:
        """Whether the domain has bounds instead of a list."""
        return self.kind in ("uniform", "loguniform")

    def holds(self, value: Any) -> bool:
        """Returns whether the value may be drawn."""
        if self.is_range:
            return isinstance(value, int | float) and self.low <= value <= self.high
        return value in self.values

    def widened(self, value: Any) -> "Domain":
        """Returns the domain with the value in it."""
        if self.holds(value):
            return self
        if self.is_range:
            return replace(self, low=min(self.low, value), high=max(self.high, value))
        return replace(self, values=(*self.values, value))

    def points(self) -> tuple[Any, ...]:
        """Returns what a grid takes of the domain: the list, or values at even distances within the range."""
        if not self.is_range:
            return self.values
        steps = [step / (GRID_POINTS - 1) for step in range(GRID_POINTS)]
        if self.kind == "loguniform":
            points = [self.low * (self.high / self.low) ** step for step in steps]
        else:
            points = [self.low + (self.high - self.low) * step for step in steps]
        points = [self.low, *points[1:-1], self.high]  # exactly: rounding must not leave the range
        return tuple(sorted({round(value) for value in points})) if self.whole else tuple(points)

    def distribution(self) -> "BaseDistribution":
        """Returns the domain as Optuna has it."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if not self.is_range:
            return CategoricalDistribution(self.values)
        log = self.kind == "loguniform"
        if self.whole:
            return IntDistribution(int(self.low), int(self.high), log=log)
        return FloatDistribution(self.low, self.high, log=log)


@dataclass(frozen=True, kw_only=True)
class Space:
    """The domains by key, and the point where the search starts."""

    domains: dict[str, Domain]
    start: Values
    """Values of the given configuration: the first trial."""

    @property
    def start_is_on_grid(self) -> bool:
        """Whether the given configuration is a point of the grid."""
        return all(self.start[key] in domain.points() for key, domain in self.domains.items())

    @property
    def grid_size(self) -> int:
        """Number of trials of a grid, the given configuration included."""
        return prod(len(domain.points()) for domain in self.domains.values()) + (not self.start_is_on_grid)

    def as_dict(self) -> dict[str, Any]:
        """Returns plain values, to be stored and compared."""
        return json.loads(json.dumps({key: asdict(domain) for key, domain in self.domains.items()}))

    def described(self) -> list[str]:
        """Returns a line for each key."""
        return [f"{key}: {_described(domain)}, given {_short(self.start[key])}" for key, domain in self.domains.items()]


def default_space(config: RunConfig) -> Space:
    """Returns the space that is searched without ``--space``: common values of kernel, learning rate, schedule and batch.

    The learning rate's range is relative to the images per class: the loss averages over images, so the gradient of
    a pixel shrinks as 1 / images. A grid takes bandwidth and learning rate alone.
    """
    images = config.condense.images_per_class
    domains = {
        "kernel.bandwidth_multiplier": Domain(kind="loguniform", low=0.1, high=10.0),
        RATE: Domain(kind="loguniform", low=0.03 * images, high=10.0 * images),
    }
    if config.tune.searcher != "grid":
        domains |= {
            "kernel.name": Domain(kind="choice", values=("gaussian", "linear")),
            "kernel.scales": Domain(kind="choice", values=(1, 3, 5, 7)),
            "kernel.scale_factor": Domain(kind="choice", values=(1.5, 2.0, 3.0, 4.0)),
            "condense.iterations_per_model": Domain(kind="choice", values=(1, 2, 5, 10)),
            "condense.batch_real": Domain(kind="choice", values=(32, 64, 128, 256)),
        }
    return space_around(config, domains)


def space_around(config: RunConfig, domains: Mapping[str, Domain]) -> Space:
    """Returns the space with the given configuration in it, whose values may widen a domain.

    Raises:
        UserError: a range is searched whose given value is none or outside what the range can be widened to.
    """
    start = {key: setting(config, key) for key in domains}
    for key, value in start.items():
        if value is None and domains[key].is_range:
            raise UserError(f"{key}: is searched, but the given configuration has no value of it; add --set {key}=...")
        if domains[key].kind == "loguniform" and value is not None and value <= 0:
            raise UserError(f"{key}: given {value}, but loguniform needs one above 0; use uniform, or --set {key}=...")
    return Space(domains={key: domain.widened(start[key]) for key, domain in domains.items()}, start=start)


def configured(config: RunConfig, values: Mapping[str, Any]) -> RunConfig:
    """Returns the configuration with a point's values. Raises UserError for values that do not go together."""
    return with_settings(config, [f"{key}={json.dumps(value)}" for key, value in values.items()], origin="a trial")


def setting(config: RunConfig, key: str) -> Any:
    """Returns a setting's value; that of the learning rate is absolute."""
    if key == RATE:
        return config.condense.step_size
    section, _, inner = key.partition(".")
    return to_dict(config)[section][inner]


def _described(domain: Domain) -> str:
    if domain.is_range:
        return f"{domain.kind} {_short(domain.low)} to {_short(domain.high)}"
    return f"one of {', '.join(map(_short, domain.values))}"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
