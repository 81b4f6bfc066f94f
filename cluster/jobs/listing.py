"""Jobs as text: one line about one job, and a table of all of them."""

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from cluster.jobs.outcome import exit_code, status_of
from cluster.text import shown

if TYPE_CHECKING:
    from ray.job_submission import JobDetails

COLUMNS = ("job", "status", "began", "ran", "command", "out", "progress")


def described(job: "JobDetails", progress: str = "") -> str:
    """One line about one job, and how far it is."""
    return ", ".join(
        [
            f"job {name_of(job)}: {status_of(job)}",
            *([f"exit code {exit_code(job)}"] if status_of(job) == "FAILED" else []),
            *([f"began {_clock(job.start_time)}"] if job.start_time else []),
            *([f"ran {_seconds(job)} s"] if job.start_time else []),
            *([progress] if progress else []),
        ]
    )


def table(jobs: Iterable["JobDetails"], progress: Callable[["JobDetails"], str] = lambda _: "") -> str:
    """A table of all jobs, the newest last.

    Args:
        jobs: to list.
        progress: how far a job is, in words.
    """
    rows = [COLUMNS, *(_row(job, progress(job)) for job in sorted(jobs, key=lambda job: job.start_time or 0))]
    if len(rows) == 1:
        return "no jobs"
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def name_of(job: "JobDetails") -> str:
    """The submission id, or the number of a driver that was started without one, as a message shows it."""
    return shown(job.submission_id or job.job_id or "?")


def _row(job: "JobDetails", progress: str) -> tuple[str, ...]:
    metadata = job.metadata or {}
    began = _clock(job.start_time) if job.start_time else ""
    ran = f"{_seconds(job)} s" if job.start_time else ""
    command, out = shown(metadata.get("command", "")), shown(metadata.get("out", ""))
    return name_of(job), status_of(job), began, ran, command, out, progress


def _clock(milliseconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(milliseconds / 1000))


def _seconds(job: "JobDetails") -> int:
    end = job.end_time or int(time.time() * 1000)
    return round((end - (job.start_time or end)) / 1000)
