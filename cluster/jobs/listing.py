"""Jobs in words."""

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from cluster.jobs.follow import exit_code, status_of

if TYPE_CHECKING:
    from ray.job_submission import JobDetails


COLUMNS = ("job", "status", "began", "ran", "command", "out")


def described(found: "JobDetails") -> str:
    """One line about one job."""
    return ", ".join(
        [
            f"job {name_of(found)}: {status_of(found)}",
            *([f"exit code {exit_code(found)}"] if status_of(found) == "FAILED" else []),
            *([f"began {_clock(found.start_time)}"] if found.start_time else []),
            *([f"ran {_seconds(found)} s"] if found.start_time else []),
        ]
    )


def table(jobs: Iterable["JobDetails"]) -> str:
    """All jobs, the newest last."""
    rows = [COLUMNS, *(_row(one) for one in sorted(jobs, key=lambda one: one.start_time or 0))]
    if len(rows) == 1:
        return "no jobs"
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def name_of(found: "JobDetails") -> str:
    """The submission id, or the number of a driver that was started without one."""
    return found.submission_id or found.job_id or "?"


def _row(found: "JobDetails") -> tuple[str, ...]:
    metadata = found.metadata or {}
    began = _clock(found.start_time) if found.start_time else ""
    ran = f"{_seconds(found)} s" if found.start_time else ""
    return name_of(found), status_of(found), began, ran, metadata.get("command", ""), metadata.get("out", "")


def _clock(milliseconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(milliseconds / 1000))


def _seconds(found: "JobDetails") -> int:
    ends = found.end_time or int(time.time() * 1000)
    return round((ends - (found.start_time or ends)) / 1000)
