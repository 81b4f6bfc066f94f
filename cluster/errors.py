"""The error that ends in one line."""

import difflib
from collections.abc import Iterable


class ClusterError(Exception):
    """A mistake in the call, or a cluster that does not do what was asked: one line that says what to do. Exit code 2."""


class NoSuchJobError(ClusterError):
    """The cluster knows no job of that name."""


def nearest(given: str, allowed: Iterable[str]) -> str:
    """``; did you mean 'x'?`` with the nearest of the allowed words, or nothing where none is near."""
    near = difflib.get_close_matches(given, list(allowed), n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""


def first_line(error: BaseException) -> str:
    """The first line of an error's message that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
