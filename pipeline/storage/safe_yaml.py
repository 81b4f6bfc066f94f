"""Parses YAML that nobody vouches for: of bounded depth, with numbers of bounded size, and no aliases."""

from collections.abc import Iterator
from typing import Any

import yaml

from pipeline.storage.safe_json import DEPTH

MOST_BITS = 10_000
"""Bits of the largest integer; Python refuses to print one of 4300 digits."""


def parse_yaml(data: bytes) -> Any:
    """Returns the value of a YAML document. Raises ValueError if it is no YAML, has an alias, or exceeds the limits."""
    try:
        value = yaml.load(data.decode(), _Loader)
    except RecursionError:
        raise ValueError(f"nested more than {DEPTH} deep") from None
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None
    except (LookupError, TypeError, AttributeError, OverflowError) as error:  # PyYAML's own, for odd tags
        raise ValueError(f"has a value that cannot be read ({type(error).__name__})") from None
    if any(isinstance(number, int) and number.bit_length() > MOST_BITS for number in _scalars(value)):
        raise ValueError("has a number of more than 3000 digits")
    return value


class _Loader(yaml.SafeLoader):
    """Plain values only; an alias could repeat a value a million times, or contain itself."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("has an alias (*name), which is not allowed; write the value again")
        self._depth += 1
        if self._depth > DEPTH:
            raise yaml.YAMLError(f"nested more than {DEPTH} deep")
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


def _scalars(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _scalars(key)
            yield from _scalars(item)
    elif isinstance(value, list | tuple | set):
        for item in value:
            yield from _scalars(item)
    else:
        yield value
