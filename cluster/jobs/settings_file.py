"""Reads a YAML file that nobody vouches for: a regular file of bounded size and depth, without aliases."""

import os
import stat
from collections.abc import Iterator
from typing import Any

import yaml

from cluster.errors import ClusterError, first_line
from cluster.text import shown

MOST_BYTES = 2**20
"""Largest file that is read."""
DEPTH = 32
"""Deepest nesting of lists and mappings."""
MOST_BITS = 10_000
"""Bits of the largest integer; Python refuses to print one of 4300 digits."""


def read(path: str, origin: str) -> Any:
    """Returns the value of a YAML file.

    Args:
        path: the file.
        origin: how messages name it.

    Raises:
        ClusterError: it cannot be read, is no YAML, or exceeds the limits.
    """
    try:
        text = _content(path, origin).decode()
    except (OSError, UnicodeDecodeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise ClusterError(f"{origin}: cannot be read ({reason}); give a YAML file") from None
    try:
        value = yaml.load(text, _Loader)
    except RecursionError:
        raise ClusterError(f"{origin}: is not valid YAML (nested too deeply)") from None
    except yaml.YAMLError as error:
        raise ClusterError(f"{origin}: is not valid YAML ({shown(first_line(error))})") from None
    except ValueError as error:  # such as the date 2026-02-31, or a number of 5000 digits
        raise ClusterError(f"{origin}: cannot be read ({shown(first_line(error))}); give a YAML file") from None
    except (LookupError, TypeError, AttributeError, OverflowError) as error:  # PyYAML's own, for odd tags
        raise ClusterError(f"{origin}: has a value that cannot be read ({type(error).__name__})") from None
    if any(isinstance(number, int) and number.bit_length() > MOST_BITS for number in _scalars(value)):
        raise ClusterError(f"{origin}: has a number of more than 3000 digits")
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
            raise yaml.YAMLError("nested too deeply")
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


def _content(path: str, origin: str) -> bytes:
    # A pipe would be waited for without end, and a device has no end.
    state = os.stat(path)
    if not stat.S_ISREG(state.st_mode):
        raise ClusterError(f"{origin}: is not a file; give a YAML file")
    if state.st_size > MOST_BYTES:
        raise ClusterError(f"{origin}: is larger than 1 MiB; give a YAML file with the keys of a profile")
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        return file.read(MOST_BYTES)


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
