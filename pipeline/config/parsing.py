"""How a RunConfig is read from files and KEY=VALUE, and written."""

import dataclasses
import json
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from m3d.config import ConfigError
from pipeline.config.run_config import RunConfig
from pipeline.errors import UserError, listed, nearest_key

_ADAPTER = TypeAdapter(RunConfig)


def to_dict(config: RunConfig) -> dict[str, Any]:
    """Nested plain values, as in a configuration file."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def from_dict(values: Mapping[str, Any], *, origin: str) -> RunConfig:
    """The configuration of nested plain values; what is missing has its default.

    Args:
        values: as of a JSON file; a run's config.json, with the same under ``config``, is taken as well.
        origin: where they come from, for messages.

    Raises:
        UserError: an unknown key (with the nearest name), a wrong type or a value out of range.
    """
    if not isinstance(values, Mapping):
        raise UserError(f"{origin}: given {type(values).__name__}, needed an object of settings")
    values = values["config"] if isinstance(values.get("config"), Mapping) else values
    _check_keys(values, known_keys(), origin)
    _refuse_truth_values(values, to_dict(RunConfig()), origin)
    try:
        return _ADAPTER.validate_python(_split_lists(values))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        cause = first.get("ctx", {}).get("error")
        key = ".".join(str(part) for part in first["loc"])
        if isinstance(cause, ConfigError):  # of the section's own checks, which name the field alone
            raise UserError(f"{origin}: {cause.within(key) if key else cause}") from None
        raise UserError(f"{origin}: {key}: given {first['input']!r}: {first['msg']}") from None


def known_keys() -> list[str]:
    """Every key with its section, such as ``kernel.scales``."""
    keys: list[str] = []
    for name, value in to_dict(RunConfig()).items():
        keys += [f"{name}.{inner}" for inner in value] if isinstance(value, dict) else [name]
    return keys


def with_settings(config: RunConfig, settings: Iterable[str], *, origin: str = "--set") -> RunConfig:
    """The configuration with ``KEY=VALUE`` applied in order; values are JSON, else text."""
    values = to_dict(config)
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals:
            raise UserError(f"{origin} {setting}: has no '='; write KEY=VALUE, such as condense.iterations=300")
        _check_key(key, known_keys(), origin)
        section, _, inner = key.rpartition(".")
        (values[section] if section else values)[inner] = _parse(text)
    return from_dict(values, origin=origin)


def differing_keys(a: Mapping[str, Any], b: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Keys whose values differ between two nested configurations."""
    found: list[str] = []
    for key in dict.fromkeys([*a, *b]):
        left, right = a.get(key), b.get(key)
        if isinstance(left, Mapping) and isinstance(right, Mapping):
            found += differing_keys(left, right, f"{prefix}{key}.")
        elif left != right:
            found.append(f"{prefix}{key}")
    return found


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # a ValueError also for numbers of thousands of digits
        return text


def _check_keys(values: Mapping[str, Any], known: list[str], origin: str) -> None:
    sections = {key.split(".")[0] for key in known if "." in key}
    for key, value in values.items():
        inner = [f"{key}.{name}" for name in value] if isinstance(value, Mapping) and key in sections else [key]
        for full in inner:
            _check_key(full, known, origin)


def _check_key(key: str, known: list[str], origin: str) -> None:
    if key not in known:
        hint = nearest_key(key, known) or f"; allowed: {listed(known, most=100)}"
        raise UserError(f"{origin}: unknown key {key!r}{hint}")


def _refuse_truth_values(values: Mapping[str, Any], defaults: Mapping[str, Any], origin: str, prefix: str = "") -> None:
    # Python counts true as 1; a person who writes it for a number means something else.
    for key, value in values.items():
        default = defaults.get(key)
        if isinstance(value, Mapping) and isinstance(default, Mapping):
            _refuse_truth_values(value, default, origin, f"{prefix}{key}.")
        elif isinstance(value, bool) and not isinstance(default, bool):
            raise UserError(
                f"{origin}: {prefix}{key}: given {str(value).lower()}, needed a value like {json.dumps(default)}"
            )


def _split_lists(values: Mapping[str, Any]) -> dict[str, Any]:
    # "a,b" is what people write on a command line for a list of names; class names may be numbers.
    copied = {key: dict(value) if isinstance(value, Mapping) else value for key, value in values.items()}
    lists = (("data", "classes"), ("evaluate", "architectures"), ("evaluate", "sets"), ("tune", "loggers"))
    for section, key in lists:
        block = copied.get(section)
        if not isinstance(block, dict):
            continue
        given = block.get(key)
        if isinstance(given, str):
            block[key] = tuple(part.strip() for part in given.split(","))
        elif isinstance(given, int) and not isinstance(given, bool):
            block[key] = (str(given),)
        elif isinstance(given, list):
            block[key] = tuple(str(part) if isinstance(part, int) else part for part in given)
    return copied
