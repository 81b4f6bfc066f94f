"""Follows a job: its output as it comes, and its end as an exit code."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, TextIO

from cluster.errors import ClusterError, NoSuchJobError
from cluster.jobs.client import asking

if TYPE_CHECKING:
    from ray.job_submission import JobDetails, JobSubmissionClient
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient


ENDED = ("SUCCEEDED", "FAILED", "STOPPED")
STOPPED = 130
"""Exit code of a job that was stopped, as of a program that was interrupted."""
RETRIES = 5
"""Times in a row that a broken connection is taken up again without anything new."""
PAUSE_S = 2.0
STOP_S = 60.0
"""Seconds that a stopped job has to end."""


def follow(client: "JobSubmissionClient", address: str, job: str, to: TextIO | None = None) -> "JobDetails":
    """Prints a job's output until it ends; returns what became of it.

    A connection that breaks is taken up again where it broke.

    Raises:
        ClusterError: there is no such job, or the cluster is gone.
        KeyboardInterrupt: Ctrl-C; the job goes on.
    """
    return asyncio.run(_follow(client, address, job, to or sys.stdout))


def stop(client: "JobSubmissionClient", address: str, job: str) -> "JobDetails":
    """Stops a job and waits until it has ended; it has time to save its checkpoints.

    Raises:
        ClusterError: there is no such job, or it does not end.
    """
    with asking(address, job):
        client.stop_job(job)
    return _wait(client, address, job, STOP_S)


def details(client: "JobSubmissionClient", address: str, job: str) -> "JobDetails":
    """What the cluster knows of a job. Raises ClusterError where there is none."""
    with asking(address, job):
        return client.get_job_info(job)


def exit_code(found: "JobDetails") -> int:
    """0 for success, the program's own code for a failure, 130 where it was stopped."""
    status = status_of(found)
    if status == "SUCCEEDED":
        return 0
    if status == "STOPPED":
        return STOPPED
    code = found.driver_exit_code
    return 1 if not code else 128 - code if code < 0 else code


def status_of(found: "JobDetails") -> str:
    """PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED."""
    return str(getattr(found.status, "value", found.status))


def ended(found: "JobDetails") -> str:
    """One line about how a job ended."""
    status = status_of(found)
    if status != "FAILED":
        return {"SUCCEEDED": "succeeded", "STOPPED": "was stopped; the same command goes on where it ended"}.get(
            status, status
        )
    if found.driver_exit_code:
        return f"failed with exit code {exit_code(found)}; its last lines say why"
    # It did not come to run: the message ends with the cause.
    lines = [line.strip() for line in (found.message or "").splitlines() if line.strip()]
    return f"failed before it ran: {lines[-1][:300] if lines else 'no reason given'}"


class _Output:
    """What has been printed of a job's output; the server begins at its beginning with every connection."""

    def __init__(self, to: TextIO) -> None:
        self.to, self.printed = to, 0

    async def copy(self, chunks: AsyncIterator[str]) -> None:
        """Prints what is new until the stream ends."""
        seen = 0
        async for text in chunks:
            if seen + len(text) > self.printed:
                print(text[max(0, self.printed - seen) :], end="", file=self.to, flush=True)
                self.printed = seen + len(text)
            seen += len(text)


async def _follow(client: "JobSubmissionClient", address: str, job: str, to: TextIO) -> "JobDetails":
    output, broken = _Output(to), 0
    while True:
        before, whole = output.printed, True
        try:
            await output.copy(client.tail_job_logs(job))
        except Exception:  # a connection can break in many ways; whether the cluster is there is asked next
            whole = False
        try:
            found = await asyncio.to_thread(details, client, address, job)
        except ClusterError as error:
            if broken >= RETRIES or isinstance(error, NoSuchJobError):
                raise
            found = None
        over = found is not None and status_of(found) in ENDED
        if found is not None and over and (whole or broken >= RETRIES):
            return found
        if broken >= RETRIES:
            raise ClusterError(
                f"{job}: its output cannot be followed; python -m cluster logs {job} shows what there is"
            )
        broken = broken + 1 if output.printed == before else 0
        await asyncio.sleep(PAUSE_S)


def _wait(client: "JobSubmissionClient", address: str, job: str, seconds: float) -> "JobDetails":
    """The job's details once it has ended."""
    ends = time.monotonic() + seconds
    while True:
        found = details(client, address, job)
        if status_of(found) in ENDED:
            return found
        if time.monotonic() >= ends:
            raise ClusterError(
                f"{job}: is still {status_of(found)} after {seconds:g} s; look again with python -m cluster status {job}"
            )
        time.sleep(0.3)


def decide(client: "JobSubmissionClient", address: str, job: str, stop_it: bool) -> int:
    """Asks whether to stop the job, where somebody can answer; returns the exit code.

    Args:
        client: of the job server.
        address: of the same.
        job: which one.
        stop_it: stop without asking.
    """
    if stop_it or _wanted(job):
        print(f"job {job}: stopping, checkpoints are saved first", file=sys.stderr, flush=True)
        print(f"job {job}: {ended(stop(client, address, job))}", file=sys.stderr)
        return STOPPED
    print(
        f"job {job}: goes on; follow it with: python -m cluster logs --address {address} --follow {job}; "
        f"stop it with: python -m cluster stop --address {address} {job}",
        file=sys.stderr,
    )
    return STOPPED


def _wanted(job: str) -> bool:
    if not sys.stdin.isatty():
        return False
    try:
        print(f"\njob {job}: stop it, or leave it running? [s/L] ", end="", file=sys.stderr, flush=True)
        return sys.stdin.readline().strip().lower() in ("s", "stop")
    except KeyboardInterrupt:
        return False
