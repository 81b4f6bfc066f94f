"""Why an actor was lost, as a person is told."""

import asyncio
import re

from ray.exceptions import RayActorError, RayTaskError

from pipeline.errors import FailedError, first_line


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
