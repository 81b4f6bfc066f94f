"""Reads a RunConfig from nested values and from ``KEY=VALUE``, and writes it."""

import dataclasses
import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from m3d.config import ConfigError
from pipeline.config.keys import keys, sections
from pipeline.config.run_config import RunConfig
from pipeline.errors import UserError, listed, nearest, nearest_key, shown

if TYPE_CHECKING:
    from pydantic import TypeAdapter, ValidationError


def to_dict(config: RunConfig) -> dict[str, Any]:
    """Nested plain values, as in a configuration file."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def from_dict(values: Mapping[str, Any], *, origin: str) -> RunConfig:
    """The configuration of nested plain values; missing keys have their defaults.

    Args:
        values: as read from a JSON file. A run's config.json, which stores them under ``config``, is accepted too.
        origin: where they come from, for messages.

    Raises:
        UserError: an unknown key (with the nearest name), a wrong type or a value out of range.
    """
    from pydantic import ValidationError

    if not isinstance(values, Mapping):
        raise UserError(f"{origin}: given {type(values).__name__}, needed a JSON object of settings")
    if isinstance(values.get("config"), Mapping):
        _refuse_beside(values, origin)
        values = values["config"]
    values = _nested(values, origin)
    _check_keys(values, origin)
    try:
        return _adapter().validate_python(_typed(values, origin))
    except ValidationError as error:
        raise UserError(f"{origin}: {_sentence(error)}") from None


def with_settings(config: RunConfig, settings: Iterable[str], *, origin: str = "--set") -> RunConfig:
    """The configuration with ``KEY=VALUE`` applied in order; a value is JSON if it parses as JSON, else text."""
    values = to_dict(config)
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals:
            raise UserError(
                f"{origin} {shown(setting)[1:-1]}: has no '='; write KEY=VALUE, such as condense.iterations=300"
            )
        _check_key(key, origin)
        section, _, inner = key.rpartition(".")
        (values[section] if section else values)[inner] = _parse(text)
    return from_dict(values, origin=origin)


def differing_keys(a: Mapping[str, Any], b: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Keys whose values differ between two nested configurations."""
    differing: list[str] = []
    for key in dict.fromkeys([*a, *b]):
        left, right = a.get(key), b.get(key)
        if isinstance(left, Mapping) and isinstance(right, Mapping):
            differing += differing_keys(left, right, f"{prefix}{key}.")
        elif left != right:
            differing.append(f"{prefix}{key}")
    return differing


@lru_cache(maxsize=1)
def _adapter() -> "TypeAdapter[RunConfig]":
    from pydantic import TypeAdapter

    return TypeAdapter(RunConfig)


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # a ValueError also for numbers of thousands of digits
        return text


def _refuse_beside(values: Mapping[str, Any], origin: str) -> None:
    """Raises UserError if there are settings beside those in ``config``: nobody would know which of them count."""
    beside = [key for key in values if key in sections() or key in keys() or "." in key]
    if beside:
        raise UserError(
            f"{origin}: has {shown(beside[0])} beside 'config', which holds the settings; move it into 'config'"
        )


def _nested(values: Mapping[str, Any], origin: str) -> dict[str, Any]:
    """The values with ``"condense.iterations": 5`` in its section. Raises UserError for a key that is given twice."""
    nested = {
        key: dict(value) if isinstance(value, Mapping) else value for key, value in values.items() if "." not in key
    }
    for key, value in values.items():
        if "." not in key:
            continue
        _check_key(key, origin)
        name, _, inner = key.partition(".")
        section = nested.setdefault(name, {})
        if not isinstance(section, dict) or inner in section:
            raise UserError(f"{origin}: {key}: given twice, by itself and in the section {name!r}; remove one of them")
        section[inner] = value
    return nested


def _check_keys(values: Mapping[str, Any], origin: str) -> None:
    for key, value in values.items():
        if isinstance(value, Mapping) and key in sections():
            for inner in value:
                _check_key(f"{key}.{inner}", origin)
        elif key not in sections():
            _check_key(key, origin)


def _check_key(key: str, origin: str) -> None:
    if key not in keys():
        hint = nearest_key(key, keys()) or f"; allowed: {listed(keys(), most=100)}"
        raise UserError(f"{origin}: unknown key {shown(key)}{hint}")


def _typed(values: Mapping[str, Any], origin: str) -> dict[str, Any]:
    """The values in the form of their keys' types. Raises UserError if a section is no object."""
    typed: dict[str, Any] = {}
    for name, value in values.items():
        if name in keys():
            typed[name] = keys()[name].typed(value, origin)
        elif isinstance(value, Mapping):
            typed[name] = {inner: keys()[f"{name}.{inner}"].typed(given, origin) for inner, given in value.items()}
        else:
            raise UserError(f"{origin}: {name}: given {shown(value)}, needed an object of settings")
    return typed


def _sentence(error: "ValidationError") -> str:
    """What is wrong with the first refused value."""
    first = error.errors(include_url=False)[0]
    cause = first.get("ctx", {}).get("error")
    name = ".".join(map(str, first["loc"]))
    if isinstance(cause, ConfigError):  # of the section's own checks, which name the field alone
        return str(cause.within(name) if name else cause)
    value, key = first["input"], keys().get(name)
    if key is None or not key.choices:
        return f"{name}: given {shown(value)}: {first['msg']}"
    hint = nearest(value, key.choices) if isinstance(value, str) else ""
    return f"{name}: given {shown(value)}, allowed: {', '.join(key.choices)}{hint}"
