"""Reads a search space from a file of JSON or YAML, with one entry for each key. No Ray here.

kernel.bandwidth_multiplier: {loguniform: [0.1, 10]}
condense.learning_rate: {loguniform: [0.03, 10], relative: true}   # times condense.images_per_class
condense.batch_real: {choice: [64, 128]}
"""

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, get_type_hints

from pipeline import storage
from pipeline.config.keys import keys
from pipeline.config.parsing import with_settings
from pipeline.config.run_config import RunConfig
from pipeline.errors import UserError, listed, nearest_key, shown
from pipeline.storage.local.regular_files import SETTINGS_BYTES
from pipeline.storage.safe_json import parse_json
from pipeline.storage.safe_yaml import parse_yaml
from pipeline.tune.space import RATE, Domain, Space, setting, space_around

KINDS = ("uniform", "loguniform", "choice", "grid")
FIXED = ("condense.images_per_class", "condense.iterations", "seed")
"""Keys that cannot be searched, because they change the metric or the cost of a trial."""
FIXED_SECTIONS = ("data", "evaluate", "pretrain", "resources", "storage", "tune")
"""Sections that cannot be searched, for the same reason or because no trial depends on them."""
_EXAMPLE = "'kernel.bandwidth_multiplier: {loguniform: [0.1, 10]}'"


def space_of_file(path: str, config: RunConfig) -> Space:
    """Returns the space that a file describes. Every bound and value is tried on the configuration.

    Raises:
        UserError: an unknown key (with the nearest name), one that cannot be searched, bounds that make no range, a
            value that the configuration does not allow.
    """
    origin = f"--space {path}"
    domains = {}
    for key, entry in _entries(path, origin).items():
        _require_searchable(str(key), origin)
        domain = _domain(key, entry, config, origin)
        ends = (domain.low, domain.high) if domain.is_range else domain.values
        # As the configuration reads them: YAML reads 1e38 as text.
        read = tuple(setting(with_settings(config, [f"{key}={json.dumps(end)}"], origin=origin), key) for end in ends)
        domains[key] = domain if domain.is_range else replace(domain, values=tuple(dict.fromkeys(read)))
    return space_around(config, domains)


def _entries(path: str, origin: str) -> Mapping[Any, Any]:
    try:
        data = storage.read_bytes(storage.absolute(path), SETTINGS_BYTES)
        entries = parse_json(data) if path.endswith(".json") else parse_yaml(data)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise UserError(f"{origin}: is not a file; give JSON or YAML such as {_EXAMPLE}") from None
    except ValueError as error:
        raise UserError(f"{origin}: is neither JSON nor YAML ({' '.join(str(error).split())})") from None
    if not isinstance(entries, Mapping) or not entries:
        raise UserError(f"{origin}: holds no settings; write entries such as {_EXAMPLE}")
    return entries


def _require_searchable(key: str, origin: str) -> None:
    if _is_fixed(key):
        raise UserError(
            f"{origin}: {key} is not searched: it changes the metric or the cost of a trial, or no trial depends on it; "
            "use --set"
        )
    known = [name for name in keys() if not _is_fixed(name)]
    if key not in known:
        raise UserError(
            f"{origin}: unknown key {shown(key)}{nearest_key(key, known) or '; allowed: ' + listed(known, most=100)}"
        )


def _is_fixed(key: str) -> bool:
    return key in FIXED or key.partition(".")[0] in FIXED_SECTIONS


def _domain(key: str, entry: Any, config: RunConfig, origin: str) -> Domain:
    where = f"{origin}: {key}"
    entry = dict(entry) if isinstance(entry, Mapping) else {}
    relative = entry.pop("relative", False)
    if len(entry) != 1 or next(iter(entry)) not in KINDS or not isinstance(relative, bool):
        raise UserError(f"{where}: needs one of {', '.join(KINDS)}, such as {_EXAMPLE}")
    ((kind, content),) = entry.items()
    if not isinstance(content, list) or not content:
        raise UserError(f"{where}: {kind}: given {shown(content)}, needed a list")
    if relative and key != RATE:
        raise UserError(f"{where}: relative is for {RATE} alone, which it multiplies by condense.images_per_class")
    factor = config.condense.images_per_class if relative else 1
    if kind in ("choice", "grid"):
        values = tuple(_number(value) * factor if relative else value for value in content)
        if not all(map(_is_plain, values)):
            raise UserError(f"{where}: {kind}: given {shown(content)}, needed words, numbers, true, false or null")
        return Domain(kind=kind, values=tuple(dict.fromkeys(values)))
    ends = [_number(value) for value in content]
    if len(ends) != 2 or not all(map(math.isfinite, ends)) or ends[0] >= ends[1]:
        raise UserError(f"{where}: {kind}: given {shown(content)}, needed two numbers, the smaller first")
    low, high = (end * factor for end in ends)
    if kind == "loguniform" and low <= 0:
        raise UserError(f"{where}: loguniform: given {shown(content)}, needed numbers above 0")
    whole = _is_integer(key)
    if whole and (low != int(low) or high != int(high)):
        raise UserError(f"{where}: {kind}: given {shown(content)}, needed integers")
    return Domain(kind=kind, low=int(low) if whole else low, high=int(high) if whole else high, whole=whole)


def _number(value: Any) -> float:
    try:
        return float("nan") if isinstance(value, bool) else float(value)  # YAML reads 1e-3 as text
    except (TypeError, ValueError, OverflowError):
        return float("nan")


def _is_plain(value: Any) -> bool:
    """Whether a setting may have the value: YAML also reads dates, for one."""
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, str | int)


def _is_integer(key: str) -> bool:
    section, _, inner = key.partition(".")
    return get_type_hints(get_type_hints(RunConfig)[section])[inner] is int
