"""Ray tasks with a bound on how many are under way."""

import asyncio
import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError

from pipeline.errors import FailedError, UserError, first_line

SETTLE_S = 60.0
"""Seconds that running tasks have to end when one of them has failed."""


def results(calls: Sequence[Callable[[], Any]], in_flight: int, what: str) -> Iterator[tuple[int, Any]]:
    """Runs tasks, ``in_flight`` at a time, and yields (index, result) as they end.

    Yields (-1, None) about every second in between, for a display. When one fails, those that run are waited
    for, and their results are yielded before the error is raised; the rest is never begun. Killing running tasks can
    bring down the driver (a check in Ray 2.60's task manager), and whatever they write is whole.

    Args:
        calls: each submits one task and returns its reference.
        in_flight: most tasks at a time.
        what: names the stage in messages.

    Raises:
        UserError: a task's own, as it was raised there.
        FailedError: a task's own, or any other error of a task.
    """
    waiting, pending = list(enumerate(calls)), {}
    try:
        while waiting or pending:
            while waiting and len(pending) < in_flight:
                index, call = waiting.pop(0)
                pending[call()] = index
            ready, _ = ray.wait(list(pending), timeout=1.0)
            for done in ready:
                index = pending.pop(done)
                yield index, result(done, what)
            if not ready:
                yield -1, None
    except (UserError, FailedError):
        ended, _ = ray.wait(list(pending), num_returns=len(pending), timeout=SETTLE_S) if pending else ([], [])
        for done in ended:
            with contextlib.suppress(UserError, FailedError):  # the first error is the one that is told
                yield pending[done], result(done, what)
        raise


def result(reference: Any, what: str) -> Any:
    """The result of one task; raises like ``results``."""
    try:
        return ray.get(reference)
    except RayTaskError as error:
        if isinstance(error.cause, UserError | FailedError):
            raise error.cause from None
        raise FailedError(f"{what}: a task failed: {error.cause!r}; --debug shows where") from error
    except RayError as error:
        lines = str(error).strip().splitlines()
        raise FailedError(
            f"{what}: a task was lost ({lines[0] if lines else type(error).__name__}); run the same command again"
        ) from error


def reason(error: BaseException, stall_s: float) -> str:
    """Why an actor or a task ended, in a few words."""
    if isinstance(error, asyncio.TimeoutError):
        return f"silent for {stall_s:g} s"
    if isinstance(error, FailedError):
        return first_line(error)
    if isinstance(error, RayTaskError):
        return f"{type(error.cause).__name__}: {first_line(error.cause)}" if error.cause else first_line(error)
    if isinstance(error, RayActorError):
        return f"{type(error).__name__}: {_told(str(error))}"
    return f"{type(error).__name__}: {first_line(error)}"


def _told(text: str) -> str:
    """Of Ray's long account of a death, what caused it: the constructor's error, or the detail of the exit."""
    if "creation task" in text:
        return text.strip().splitlines()[-1].strip()
    detail = re.search(r"exit detail: (.*?)(\. Some common causes|$)", text, re.MULTILINE)
    return detail.group(1).strip() if detail else text.strip().splitlines()[0]
