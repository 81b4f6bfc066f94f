"""Errors that end in one line."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake of the person's: one line that says what was given, what is allowed and what to do. Exit code 2."""


class FailedError(Exception):
    """Something broke that the person did not do: one line, exit code 1; the same command takes up the rest."""


class Interrupted(Exception):
    """The run was asked to stop, by Ctrl-C or SIGTERM; checkpoints are written."""


class DeviceError(Exception):
    """Memory or a GPU gave out: the actor is of no more use, but its group goes on from its checkpoint on another."""


def nearest(given: str, allowed: Iterable[str]) -> str:
    """``; did you mean 'x'?`` with the nearest of the allowed names, or nothing where none is near."""
    near = difflib.get_close_matches(given, list(allowed), n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""


def nearest_key(given: str, known: Iterable[str]) -> str:
    """Like ``nearest`` for keys of sections: those that end in what was given come first, then the one that looks like it."""
    known = list(known)
    bare = given.rsplit(".", 1)[-1]
    same = [key for key in known if key.rsplit(".", 1)[-1] == bare]
    if same and "." not in given:
        return f"; did you mean {' or '.join(map(repr, same))}?"
    return nearest(given, known) or (f"; did you mean {same[0]!r}?" if same else "")


def listed(names: Iterable[str], most: int = 12) -> str:
    """Names joined by commas, cut after ``most``."""
    names = list(names)
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest


def first_line(error: BaseException) -> str:
    """The first line of an error's message that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
