"""How far a job is, by the last line of progress in its output: "condense: 30%, 0/2 groups, loss 0.75, 0:31 left"."""

import re
from typing import TYPE_CHECKING

from cluster.errors import ClusterError
from cluster.jobs.client import JobServer, errors_in_one_line
from cluster.jobs.outcome import status_of

if TYPE_CHECKING:
    from ray.job_submission import JobDetails

LINE = re.compile(
    r"^(?P<phase>[a-z]{3,20}): (?P<share>\d{1,3})%(?:, .{0,300}?)??(?:, (?P<left>[\d:]{4,12}) left)?$", re.MULTILINE
)
"""A line of a display without a terminal."""
LAST = 20_000
"""Characters of the end of the output that are looked at."""


def progress_of(server: JobServer, job: "JobDetails") -> str:
    """Returns phase, per cent and time left of a running job, such as ``condense 30%, 0:31 left``; else an empty string."""
    if status_of(job) != "RUNNING" or not job.submission_id:
        return ""
    try:
        with errors_in_one_line(server.address, job.submission_id):
            text = server.client.get_job_logs(job.submission_id)
    except ClusterError:  # its output is on a node that is gone; the job's state is known all the same
        return ""
    return described(text)


def described(output: str) -> str:
    """Returns what the last line of progress says, or an empty string if there is none."""
    found = list(LINE.finditer(output[-LAST:]))
    if not found:
        return ""
    left = found[-1]["left"]
    return f"{found[-1]['phase']} {found[-1]['share']}%" + (f", {left} left" if left else "")
