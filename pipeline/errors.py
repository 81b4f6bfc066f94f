"""Errors that the command line prints as one line, and helpers for their text."""

import difflib
import re
from collections import Counter
from collections.abc import Iterable

from m3d.config import LONGEST, shown

__all__ = [
    "DeviceError",
    "FailedError",
    "Interrupted",
    "UserError",
    "first_line",
    "listed",
    "nearest",
    "nearest_key",
    "one_line",
    "printable",
    "repeated",
    "shown",
]
MESSAGE = 2000
"""Largest number of characters of a message."""

_SECRETS = (
    # A user name with or without a password; a secret of S3 may contain slashes.
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
"""Control characters of terminals and of the direction of writing, and halves of pairs. Tabs and line ends stay."""
_LONG = re.compile(rf"(?<!\w)'[^'\n]{{{LONGEST - 1},}}'|\"[^\"\n]{{{LONGEST - 1},}}\"|\S{{{LONGEST + 1},}}")
"""A value that is too long for a message: quoted, or without a space."""


class UserError(Exception):
    """A mistake in the call. The line says what was given, what is allowed and what to do next. Exit code 2."""


class FailedError(Exception):
    """A failure that is not the user's mistake. Exit code 1; repeating the command resumes the work."""


class Interrupted(Exception):
    """The run was stopped by Ctrl-C or SIGTERM; checkpoints are written. Exit code 130."""


class DeviceError(Exception):
    """Memory or a GPU failed. The actor is lost; its group resumes from its checkpoint on another actor."""


def nearest(name: str, allowed: Iterable[str]) -> str:
    """``; did you mean 'x'?`` with the nearest allowed name, or an empty string if none is similar."""
    near = difflib.get_close_matches(name, list(allowed), n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""


def nearest_key(key: str, known: Iterable[str]) -> str:
    """Like ``nearest``, for keys with sections: a key of the same name in another section, else the most similar key."""
    known = list(known)
    bare = key.rsplit(".", 1)[-1]
    same = [other for other in known if other.rsplit(".", 1)[-1] == bare]
    if same and "." not in key:
        return f"; did you mean {' or '.join(map(repr, same))}?"
    return nearest(key, known) or (f"; did you mean {same[0]!r}?" if same else "")


def listed(names: Iterable[str], most: int = 12) -> str:
    """The names joined by commas; after ``most`` names only the number of the others."""
    names = list(names)
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest


def repeated(names: Iterable[str]) -> list[str]:
    """The names that occur more than once, sorted, each once."""
    return sorted(name for name, count in Counter(names).items() if count > 1)


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
    return _cut(_LONG.sub(lambda found: _cut(found[0], LONGEST), text), MESSAGE)


def _cut(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    end = most // 4
    return f"{text[: most - end - 40]}... ({len(text)} characters) ...{text[-end:]}"
