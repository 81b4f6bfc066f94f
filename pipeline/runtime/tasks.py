"""Ray tasks with a bound on how many run at a time, and why a task or an actor ended."""

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


def results(
    calls: Sequence[Callable[[], Any]], in_flight: int, what: str, *, on_tick: Callable[[], None] = lambda: None
) -> Iterator[tuple[int, Any]]:
    """Runs tasks and yields (index, result) as they end.

    When a task fails, the running ones are waited for and their results are yielded before the error is raised. The
    others are never started. Running tasks are not killed: that can crash the driver (a check in Ray 2.60's task
    manager), and what they write is then complete.

    Args:
        calls: each submits one task and returns its reference.
        in_flight: most tasks at a time.
        what: name of the stage in messages.
        on_tick: called after every second in which no task ended, to refresh a display.

    Raises:
        UserError: a task raised it.
        FailedError: a task raised it, or any other error.
    """
    waiting, pending = list(enumerate(calls)), {}
    try:
        while waiting or pending:
            while waiting and len(pending) < in_flight:
                index, call = waiting.pop(0)
                pending[call()] = index
            ready, _ = ray.wait(list(pending), timeout=1.0)
            for reference in ready:
                index = pending.pop(reference)
                yield index, result(reference, what)
            if not ready:
                on_tick()
    except (UserError, FailedError):
        ended, _ = ray.wait(list(pending), num_returns=len(pending), timeout=SETTLE_S) if pending else ([], [])
        for reference in ended:
            with contextlib.suppress(UserError, FailedError):  # the first error is the one that is reported
                yield pending[reference], result(reference, what)
        raise


def result(reference: Any, what: str) -> Any:
    """Returns the result of one task. Raises the same errors as ``results``."""
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
    """Why an actor or a task ended, in a few words.

    Args:
        error: that ended it.
        stall_s: seconds of silence after which an actor counts as dead.
    """
    if isinstance(error, asyncio.TimeoutError):
        return f"silent for {stall_s:g} s"
    if isinstance(error, FailedError):
        return first_line(error)
    if isinstance(error, RayTaskError):
        return f"{type(error.cause).__name__}: {first_line(error.cause)}" if error.cause else first_line(error)
    if isinstance(error, RayActorError):
        return f"{type(error).__name__}: {_cause_of_death(str(error))}"
    return f"{type(error).__name__}: {first_line(error)}"


def _cause_of_death(text: str) -> str:
    """The cause in Ray's long report of a death: the error of the constructor, or the detail of the exit."""
    if "creation task" in text:
        return text.strip().splitlines()[-1].strip()
    detail = re.search(r"exit detail: (.*?)(\. Some common causes|$)", text, re.MULTILINE)
    return detail.group(1).strip() if detail else text.strip().splitlines()[0]
