"""The state of a job, and how it ended: as an exit code and as one line."""

from typing import TYPE_CHECKING

from cluster.text import shown

if TYPE_CHECKING:
    from ray.job_submission import JobDetails

ENDED = ("SUCCEEDED", "FAILED", "STOPPED")
"""States in which a job has ended."""
STOPPED = 130
"""Exit code of a job that was stopped, as of a program that was interrupted."""


def status_of(details: "JobDetails") -> str:
    """PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED."""
    return str(getattr(details.status, "value", details.status))


def exit_code(details: "JobDetails") -> int:
    """0 for success, the program's own code for a failure, 130 for a job that was stopped."""
    status = status_of(details)
    if status == "SUCCEEDED":
        return 0
    if status == "STOPPED":
        return STOPPED
    code = details.driver_exit_code
    return 1 if not code else 128 - code if code < 0 else code


def summary(details: "JobDetails") -> str:
    """One line about how a job ended."""
    status = status_of(details)
    if status == "SUCCEEDED":
        return "succeeded"
    if status == "STOPPED":
        return "was stopped; submit the same command again to resume"
    if status != "FAILED":
        return status
    if details.driver_exit_code:
        return f"failed with exit code {exit_code(details)}; the last lines of its output say why"
    # The command was not started: the message ends with the cause.
    lines = [line.strip() for line in (details.message or "").splitlines() if line.strip()]
    return f"failed before it started: {shown(lines[-1], 300) if lines else 'no reason given'}"
