"""Errors that the command line prints as one line, and helpers for their text."""

import difflib
from collections.abc import Iterable


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
