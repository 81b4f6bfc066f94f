"""Every key of a configuration, with its type and default, as the settings' classes define them."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, is_dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from pipeline.config.run_config import RunConfig
from pipeline.errors import UserError

NAMES = tuple[str, ...]
"""The type of settings that are lists of names."""


@dataclass(frozen=True, kw_only=True)
class Key:
    """One setting."""

    name: str
    """Name with its section, such as ``kernel.scales``."""
    kind: Any
    """Type of the field."""
    default: Any
    """Default as in a JSON file."""

    @property
    def kinds(self) -> tuple[Any, ...]:
        """The types of which a value may be, ``None`` left out: the parts of ``int | None``, or the type itself."""
        if get_origin(self.kind) is Literal or self.kind == NAMES:
            return (self.kind,)
        return tuple(part for part in get_args(self.kind) if part is not type(None)) or (self.kind,)

    @property
    def choices(self) -> tuple[str, ...]:
        """The words that are allowed, or nothing if the setting is no choice of words."""
        return get_args(self.kind) if get_origin(self.kind) is Literal else ()

    def typed(self, value: Any, origin: str) -> Any:
        """The value in the type's own form: ``"a,b"`` and ``["a", "b"]`` are the same list of names.

        Raises:
            UserError: true or false for a setting of another type, which Python would count as 1 or 0.
        """
        if isinstance(value, bool) and bool not in self.kinds:
            written, example = json.dumps(value), json.dumps(self.default)
            raise UserError(f"{origin}: {self.name}: given {written}, needed a value like {example}")
        return _names(value) if NAMES in self.kinds else value


def _names(value: Any) -> Any:
    """A list of names from what people write; class names may be numbers. Other values are left to the type."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(","))
    if isinstance(value, int):
        return (str(value),)
    if isinstance(value, list):
        return tuple(str(part) if isinstance(part, int) else part for part in value)
    return value


@lru_cache(maxsize=1)
def keys() -> Mapping[str, Key]:
    """Every key by its name, in the order of the classes."""
    defaults = json.loads(json.dumps(asdict(RunConfig())))
    table: dict[str, Key] = {}
    for name, kind in get_type_hints(RunConfig).items():
        if is_dataclass(kind):
            for field, inner in get_type_hints(kind).items():
                key = f"{name}.{field}"
                table[key] = Key(name=key, kind=inner, default=defaults[name][field])
        else:
            table[name] = Key(name=name, kind=kind, default=defaults[name])
    return MappingProxyType(table)


@lru_cache(maxsize=1)
def sections() -> tuple[str, ...]:
    """Names of the sections, such as ``kernel``."""
    return tuple(dict.fromkeys(name.partition(".")[0] for name in keys() if "." in name))
