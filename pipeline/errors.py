"""Errors that the command line prints as one line, and helpers for their text."""

import difflib
from collections import Counter
from collections.abc import Iterable


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
