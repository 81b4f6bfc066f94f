"""What a search varies: a range or a list of values for each setting, by default or from a file. No Ray here.

A file is JSON or YAML with one entry for each key::

    kernel.bandwidth_multiplier: {loguniform: [0.1, 10]}
    condense.learning_rate: {loguniform: [0.03, 10], relative: true}   # times condense.images_per_class
    condense.batch_real: {choice: [64, 128]}
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import yaml

from pipeline import storage
from pipeline.config.keys import keys
from pipeline.config.parsing import known_keys, to_dict, with_settings
from pipeline.config.run_config import RunConfig
from pipeline.errors import UserError, listed, nearest_key

KINDS = ("uniform", "loguniform", "choice", "grid")
GRID_POINTS = 5
"""Values of a range that a grid takes."""
RATE = "condense.learning_rate"
FIXED = ("condense.images_per_class", "condense.iterations", "seed")
"""Keys that decide what is measured or what it costs, and the sections that do."""
FIXED_SECTIONS = ("data", "evaluate", "pretrain", "resources", "storage", "tune")

Values = dict[str, Any]
"""A point of the space: the value of every key that is searched, absolute, as in ``--set``."""


@dataclass(frozen=True, kw_only=True)
class Domain:
    """What one key may be: a range with its bounds, or a list of values."""

    kind: str
    low: float = 0.0
    high: float = 0.0
    values: tuple[Any, ...] = ()
    whole: bool = False
    """Whether a range is of integers, both bounds among them."""

    @property
    def is_range(self) -> bool:
        return self.kind in ("uniform", "loguniform")

    def holds(self, value: Any) -> bool:
        """Whether the value may be drawn."""
        if self.is_range:
            return isinstance(value, int | float) and self.low <= value <= self.high
        return value in self.values

    def widened(self, value: Any) -> "Domain":
        """The domain with the value in it."""
        if self.holds(value):
            return self
        if self.is_range:
            return replace(self, low=min(self.low, value), high=max(self.high, value))
        return replace(self, values=(*self.values, value))

    def points(self) -> tuple[Any, ...]:
        """What a grid takes of it: the list, or values at even distances within the range."""
        if not self.is_range:
            return self.values
        steps = [step / (GRID_POINTS - 1) for step in range(GRID_POINTS)]
        if self.kind == "loguniform":
            found = [self.low * (self.high / self.low) ** step for step in steps]
        else:
            found = [self.low + (self.high - self.low) * step for step in steps]
        found = [self.low, *found[1:-1], self.high]  # exactly: rounding must not leave the range
        return tuple(sorted({round(value) for value in found})) if self.whole else tuple(found)


@dataclass(frozen=True, kw_only=True)
class Space:
    """The domains by key, and where the search begins."""

    domains: dict[str, Domain]
    start: Values
    """What the given configuration has: the first trial."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values, to be stored and compared."""
        return json.loads(json.dumps({key: asdict(domain) for key, domain in self.domains.items()}))

    def described(self) -> list[str]:
        """A line for each key."""
        return [f"{key}: {_described(domain)}, given {_short(self.start[key])}" for key, domain in self.domains.items()]


def default_space(config: RunConfig) -> Space:
    """Kernel, bandwidth, the bank, learning rate, iterations per model and batch, around what is usual.

    The learning rate's range is relative to the images per class, since the mean in the loss makes a pixel's
    gradient fall as 1 / images. A grid takes bandwidth and learning rate alone.
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
    return _around(config, domains)


def space_of_file(path: str, config: RunConfig) -> Space:
    """The space that a file describes, its every bound and value tried on the configuration.

    Raises:
        UserError: an unknown key (with the nearest name), one that is not searched, bounds that make no range, a
            value that the configuration does not allow.
    """
    origin = f"--space {path}"
    try:
        text = storage.read_bytes(storage.absolute(path)).decode()
        found = json.loads(text) if path.endswith(".json") else yaml.safe_load(text)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise UserError(f"{origin}: is not a file; give JSON or YAML such as {_EXAMPLE}") from None
    except (ValueError, yaml.YAMLError) as error:
        raise UserError(f"{origin}: is neither JSON nor YAML ({' '.join(str(error).split())})") from None
    if not isinstance(found, Mapping) or not found:
        raise UserError(f"{origin}: holds no settings; write entries such as {_EXAMPLE}")
    domains = {}
    for key, entry in found.items():
        _require_searchable(str(key), origin)
        domain = _domain(key, entry, config, origin)
        ends = (domain.low, domain.high) if domain.is_range else domain.values
        # As the configuration reads them: YAML takes 1e38 for text.
        read = tuple(_given(with_settings(config, [f"{key}={json.dumps(end)}"], origin=origin), key) for end in ends)
        domains[key] = domain if domain.is_range else replace(domain, values=tuple(dict.fromkeys(read)))
    return _around(config, domains)


def configured(config: RunConfig, values: Mapping[str, Any]) -> RunConfig:
    """The configuration with a point's values, checked. Raises UserError for values that do not go together."""
    return with_settings(config, [f"{key}={json.dumps(value)}" for key, value in values.items()], origin="a trial")


_EXAMPLE = "'kernel.bandwidth_multiplier: {loguniform: [0.1, 10]}'"


def _around(config: RunConfig, domains: dict[str, Domain]) -> Space:
    """The space with the given configuration in it, whose values may widen a domain."""
    start = {key: _given(config, key) for key in domains}
    for key, value in start.items():
        if value is None and domains[key].is_range:
            raise UserError(f"{key}: is searched, but the given configuration has no value of it; add --set {key}=...")
        if domains[key].kind == "loguniform" and value is not None and value <= 0:
            raise UserError(f"{key}: given {value}, but loguniform needs one above 0; use uniform, or --set {key}=...")
    return Space(domains={key: domain.widened(start[key]) for key, domain in domains.items()}, start=start)


def _given(config: RunConfig, key: str) -> Any:
    if key == RATE:
        return config.condense.step_size
    section, _, inner = key.partition(".")
    return to_dict(config)[section][inner]


def _require_searchable(key: str, origin: str) -> None:
    section = key.partition(".")[0]
    if key in FIXED or section in FIXED_SECTIONS:
        raise UserError(
            f"{origin}: {key} is not searched: no trial depends on it, or it decides what trials cost and are measured by; use --set"
        )
    known = [name for name in known_keys() if name not in FIXED and name.partition(".")[0] not in FIXED_SECTIONS]
    if key not in known:
        raise UserError(
            f"{origin}: unknown key {key!r}{nearest_key(key, known) or '; allowed: ' + listed(known, most=100)}"
        )


def _domain(key: str, entry: Any, config: RunConfig, origin: str) -> Domain:
    where = f"{origin}: {key}"
    entry = dict(entry) if isinstance(entry, Mapping) else {}
    relative = entry.pop("relative", False)
    if len(entry) != 1 or next(iter(entry)) not in KINDS or not isinstance(relative, bool):
        raise UserError(f"{where}: needs one of {', '.join(KINDS)}, such as {_EXAMPLE}")
    ((kind, given),) = entry.items()
    if not isinstance(given, list) or not given:
        raise UserError(f"{where}: {kind}: given {given!r}, needed a list")
    if relative and key != RATE:
        raise UserError(f"{where}: relative is for {RATE} alone, which it multiplies by condense.images_per_class")
    factor = config.condense.images_per_class if relative else 1
    if kind in ("choice", "grid"):
        values = tuple(_number(value) * factor if relative else value for value in given)
        if not all(map(_is_plain, values)):
            raise UserError(f"{where}: {kind}: given {given!r}, needed words, numbers, true, false or null")
        return Domain(kind=kind, values=tuple(dict.fromkeys(values)))
    ends = [_number(value) for value in given]
    if len(ends) != 2 or not all(map(math.isfinite, ends)) or ends[0] >= ends[1]:
        raise UserError(f"{where}: {kind}: given {given!r}, needed two numbers, the smaller first")
    low, high = (end * factor for end in ends)
    if kind == "loguniform" and low <= 0:
        raise UserError(f"{where}: loguniform: given {given!r}, needed numbers above 0")
    whole = _is_whole(key)
    if whole and (low != int(low) or high != int(high)):
        raise UserError(f"{where}: {kind}: given {given!r}, needed integers")
    return Domain(kind=kind, low=int(low) if whole else low, high=int(high) if whole else high, whole=whole)


def _number(value: Any) -> float:
    try:
        return float("nan") if isinstance(value, bool) else float(value)  # YAML reads 1e-3 as text
    except (TypeError, ValueError, OverflowError):
        return float("nan")


def _is_plain(value: Any) -> bool:
    """Whether a setting may have the value: YAML knows dates and more."""
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, str | int)


def _is_whole(key: str) -> bool:
    return keys()[key].kind is int


def _described(domain: Domain) -> str:
    if domain.is_range:
        return f"{domain.kind} {_short(domain.low)} to {_short(domain.high)}"
    return f"one of {', '.join(map(_short, domain.values))}"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
