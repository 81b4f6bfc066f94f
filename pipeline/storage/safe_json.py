"""Parses JSON that nobody vouches for: of bounded depth and number of containers, and with numbers of bounded size."""

import json
import math
import re
from itertools import accumulate
from typing import Any

DEPTH = 64
"""Deepest nesting of lists and objects."""
CONTAINERS = 2**24
"""Most lists and objects: an empty one takes twenty times as much memory as in the text."""
_TEXT = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"')
_BRACKETS = re.compile(r"[\[\]{}]")


def parse_json(data: bytes | str, *, any_number: bool = False) -> Any:
    """Returns the value of a JSON document.

    Args:
        data: the document.
        any_number: whether NaN, infinities and integers of more than 64 bits are allowed, as other programs write them.

    Raises:
        ValueError: it is no JSON or exceeds the limits.
    """
    try:
        text = data.decode(json.detect_encoding(data), "surrogatepass") if isinstance(data, bytes) else data
        if text.count("[") + text.count("{") > CONTAINERS:
            raise ValueError(f"has more than {CONTAINERS} lists and objects")
        value = (
            json.loads(text)
            if any_number
            else json.loads(text, parse_int=_integer, parse_float=_finite, parse_constant=_refuse_constant)
        )
    except RecursionError:
        raise ValueError(f"nested more than {DEPTH} deep") from None
    # Only now: in valid JSON every text ends, so that removing all of them takes linear time.
    bare = _TEXT.sub("", text)
    depths = accumulate(1 if bracket in "[{" else -1 for bracket in _BRACKETS.findall(bare))
    if max(depths, default=0) > DEPTH:
        raise ValueError(f"nested more than {DEPTH} deep")
    return value


def _integer(text: str) -> int:
    value = int(text)
    if abs(value) >= 2**64:
        raise ValueError("has a number of more than 64 bits")
    return value


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError("has a number of more than 64 bits")
    return value


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"has {name}, which is no number of JSON")
