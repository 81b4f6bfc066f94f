"""Follows a job: prints its output as it arrives, until the job ends or the user interrupts."""

import asyncio
import shlex
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, TextIO

from cluster.errors import ClusterError, NoSuchJobError
from cluster.jobs.client import JobServer, errors_in_one_line
from cluster.jobs.outcome import ENDED, STOPPED, status_of, summary

if TYPE_CHECKING:
    from ray.job_submission import JobDetails

RETRIES = 5
"""Number of times in a row that a broken connection is reopened without receiving anything new."""
PAUSE_S = 2.0
"""Seconds between two connections."""
SILENCE_S = 60.0
"""Seconds without output after which the job server is asked whether it is still there. The job may be silent."""
STOP_S = 60.0
"""Seconds that a stopped job has to end."""


def follow(server: JobServer, job: str, to: TextIO | None = None) -> "JobDetails":
    """Prints a job's output until the job ends; returns its last details.

    A broken connection is reopened, and the output continues where it broke off.

    Args:
        server: runs the job.
        job: its submission id.
        to: receives the output. Defaults to stdout.

    Raises:
        ClusterError: there is no such job, or the cluster is gone.
        KeyboardInterrupt: Ctrl-C; the job keeps running.
    """
    return asyncio.run(_follow(server, job, to or sys.stdout))


def stop(server: JobServer, job: str) -> "JobDetails":
    """Stops a job and waits until it has ended, so that it can save its checkpoints; returns its last details.

    Raises:
        ClusterError: there is no such job, or it does not end.
    """
    with errors_in_one_line(server.address, job):
        server.client.stop_job(job)
    return _wait(server, job, STOP_S)


def details(server: JobServer, job: str) -> "JobDetails":
    """What the cluster knows about a job. Raises ClusterError if there is no such job."""
    with errors_in_one_line(server.address, job):
        return server.client.get_job_info(job)


def decide(server: JobServer, job: str, stop_it: bool) -> int:
    """Asks the user whether to stop the job, if there is a terminal; returns the exit code.

    Args:
        server: runs the job.
        job: its submission id.
        stop_it: stop without asking.
    """
    if stop_it or _user_wants_to_stop(job):
        print(f"job {job}: stopping, checkpoints are saved first", file=sys.stderr, flush=True)
        print(f"job {job}: {summary(stop(server, job))}", file=sys.stderr)
        return STOPPED
    address = shlex.quote(server.address)
    print(
        f"job {job}: keeps running; follow it with: python -m cluster logs --address {address} --follow {job}; "
        f"stop it with: python -m cluster stop --address {address} {job}",
        file=sys.stderr,
    )
    return STOPPED


class _Output:
    """The printed part of a job's output; the server sends the output from its beginning with every connection."""

    def __init__(self, to: TextIO) -> None:
        self.to, self.printed = to, 0

    async def copy(self, chunks: AsyncIterator[str], goes_on: Callable[[], Awaitable[bool]]) -> bool:
        """Prints what is new; returns True when the stream has ended.

        After every silence ``goes_on`` is asked whether to wait on; if not, False is returned.
        """
        received = 0
        while True:
            pending = asyncio.ensure_future(anext(chunks))
            try:
                while not (await asyncio.wait([pending], timeout=SILENCE_S))[0]:
                    if not await goes_on() and not pending.done():
                        return False
                text = pending.result()
            except StopAsyncIteration:
                return True
            finally:
                pending.cancel()
            if received + len(text) > self.printed:
                print(text[max(0, self.printed - received) :], end="", file=self.to, flush=True)
                self.printed = received + len(text)
            received += len(text)


async def _follow(server: JobServer, job: str, to: TextIO) -> "JobDetails":
    output, failures = _Output(to), 0

    async def goes_on() -> bool:
        try:
            return status_of(await asyncio.to_thread(details, server, job)) not in ENDED
        except ClusterError:
            return False

    while True:
        before, complete, silent = output.printed, False, False
        try:
            complete = await output.copy(server.client.tail_job_logs(job), goes_on)
            silent = not complete
        except Exception:  # a connection can break in many ways; the request below shows whether the cluster is there
            pass
        try:
            now = await asyncio.to_thread(details, server, job)
        except ClusterError as error:
            if failures >= RETRIES or isinstance(error, NoSuchJobError):
                raise
            now = None
        has_ended = now is not None and status_of(now) in ENDED
        if now is not None and has_ended and (complete or failures >= RETRIES):
            return now
        if failures >= RETRIES:
            raise ClusterError(
                f"{job}: its output cannot be followed; python -m cluster logs {job} prints what is available"
            )
        answers = output.printed != before or (silent and now is not None)
        failures = 0 if answers else failures + 1
        await asyncio.sleep(PAUSE_S)


def _wait(server: JobServer, job: str, seconds: float) -> "JobDetails":
    """The job's details once it has ended. Raises ClusterError if it has not ended in time."""
    deadline = time.monotonic() + seconds
    while True:
        now = details(server, job)
        if status_of(now) in ENDED:
            return now
        if time.monotonic() >= deadline:
            raise ClusterError(
                f"{job}: is still {status_of(now)} after {seconds:g} s; check again with python -m cluster status {job}"
            )
        time.sleep(0.3)


def _user_wants_to_stop(job: str) -> bool:
    if not sys.stdin.isatty():
        return False
    try:
        print(f"\njob {job}: stop it, or leave it running? [s/L] ", end="", file=sys.stderr, flush=True)
        return sys.stdin.readline().strip().lower() in ("s", "stop")
    except KeyboardInterrupt:
        return False
