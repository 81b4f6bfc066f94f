"""What Ctrl-C means while a job is followed: leave it running, or stop it."""

import sys
from typing import TYPE_CHECKING

from cluster.follow import STOPPED, ended, stop

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient


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
