"""Errors that the command line prints as one line, and helpers for their text."""

import difflib
import re
from collections.abc import Iterable

VALUE, MESSAGE = 200, 2000
"""Largest number of characters of a value and of a message."""
_SECRETS = (
    (re.compile(r"://(?:[^/@\s]{1,500}|[^/@\s]{0,100}:[^@\s]{0,500})@"), "://...@"),
    (
        re.compile(
            r"(?i)((?:signature|secret|passw(?:or)?d|credential|access_?key|token|api_?key)[\w-]{0,20}|[?&]sig)=[^&\s'\",;)]{8,}"
        ),
        r"\1=...",
    ),
    (re.compile(r"\b(AKIA|ASIA)[0-9A-Z]{16}\b"), r"\1..."),
    (re.compile(r"(?i)\b(bearer)\s+[\w.~+/=-]{16,}"), r"\1 ..."),
)
_UNPRINTABLE = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)
_LONG = re.compile(rf"'[^'\n]{{{VALUE - 1},}}'|\"[^\"\n]{{{VALUE - 1},}}\"|\S{{{VALUE + 1},}}")


class ClusterError(Exception):
    """A mistake in the call, or a cluster that does not do what it was asked. The line says what to do. Exit code 2."""


class NoSuchJobError(ClusterError):
    """The cluster has no job of that name."""


def nearest(name: str, allowed: Iterable[str]) -> str:
    """``; did you mean 'x'?`` with the nearest allowed word, or an empty string if none is similar."""
    near = difflib.get_close_matches(name, list(allowed), n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""


def first_line(error: BaseException) -> str:
    """The first line of an error's message that is not empty, else the name of its type."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def printable(text: str) -> str:
    """The text without credentials, and with control characters written as escapes, so that a terminal does not obey them."""
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    return _UNPRINTABLE.sub(lambda found: ascii(found[0])[1:-1], text)


def one_line(error: object) -> str:
    """An error's message as it is printed: ``printable``, in one line, long values cut in the middle."""
    text = printable(" ".join(str(error)[: 50 * MESSAGE].split()))
    return _cut(_LONG.sub(lambda found: _cut(found[0], VALUE), text), MESSAGE)


def _cut(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    end = most // 4
    return f"{text[: most - end - 40]}... ({len(text)} characters) ...{text[-end:]}"
