"""Why an actor ended, in words."""

import asyncio
import re

from ray.exceptions import OutOfMemoryError, RayActorError, RayError, RayTaskError

from pipeline.errors import FailedError, first_line

MEMORY = {
    "prepare": "lower data.image_size",
    "condense": "lower condense.batch_real, resources.classes_per_group or resources.actors",
    "evaluate": "set evaluate.together=1",
    "compare": "set evaluate.together=1",
    "pretrain": "lower pretrain.batch or pretrain.workers",
    "tune": "set tune.concurrent=1, or lower condense.batch_real",
}
"""What lowers the need for memory, by stage."""


def lost(what: str, error: BaseException, attempts: int, why: str, *, starting: bool = False) -> FailedError:
    """The error for work that is given up because its processes were lost.

    Args:
        what: name of the stage.
        error: that ended the last process.
        attempts: number of processes that were lost.
        why: why the last one ended.
        starting: whether the processes were lost while they started.
    """
    if ran_out_of_memory(error):
        return out_of_memory(what, error, attempts)
    times = "once" if attempts == 1 else f"{attempts} times"
    done = "no worker can start; it was lost" if starting else "a worker was lost"
    return FailedError(f"{what}: {done} {times}, at last: {why}; run the same command again")


def out_of_memory(what: str, error: BaseException, attempts: int) -> FailedError:
    """The error for work that Ray's memory monitor has killed in every attempt."""
    node = re.search(r"\(IP: ([^,)]+)|node \(?(?:ip|IP)[:= ]+([\w.:]+)", str(error))
    where = f"node {next(filter(None, node.groups()))}" if node else "a node"
    times = "once" if attempts == 1 else f"{attempts} times"
    less = MEMORY.get(what, "lower the number of concurrent processes")
    return FailedError(
        f"{what}: {where} ran out of memory, and Ray's memory monitor killed a worker {times}; {less}, give every worker "
        "more CPUs so that fewer run at a time, or use nodes with more memory, and run the same command again"
    )


def ran_out_of_memory(error: BaseException | None) -> bool:
    """Whether Ray's memory monitor killed the process."""
    return isinstance(error, OutOfMemoryError) or (
        isinstance(error, RayError) and not isinstance(error, RayTaskError) and "memory monitor" in str(error)
    )


def reason(error: BaseException, stall_s: float) -> str:
    """Why an actor ended, in a few words.

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
    if ran_out_of_memory(error):
        return "its node ran out of memory"
    if isinstance(error, RayActorError):
        return f"{type(error).__name__}: {_cause_of_death(str(error))}"
    return f"{type(error).__name__}: {first_line(error)}"


def _cause_of_death(text: str) -> str:
    """The cause in Ray's long report of a death: the error of the constructor, or the detail of the exit."""
    if "creation task" in text:
        return text.strip().splitlines()[-1].strip()
    detail = re.search(r"exit detail: (.*?)(\. Some common causes|$)", text, re.MULTILINE)
    return detail.group(1).strip() if detail else text.strip().splitlines()[0]
