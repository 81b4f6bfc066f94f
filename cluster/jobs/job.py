"""A job as it goes to Ray: entrypoint, stable submission id, runtime environment, resources, metadata."""

import hashlib
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster.jobs.client import asking
from cluster.jobs.command_line import entrypoint, out_of
from cluster.jobs.credentials import passed_on
from cluster.jobs.follow import status_of
from cluster.jobs.profile import Profile
from cluster.jobs.upload import EXCLUDES

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient


STOP_WAIT_S = 30
"""Seconds that a stopped job has to save its checkpoints before Ray kills it; Ray's own default is 3."""
LEFT_OUT = "Raylet is terminated|has been marked dead"
"""Of Ray's messages in a job's output: pages of a dead node's log. The run says in a line that it lost an actor."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """Everything that Ray's job server is told."""

    entrypoint: str
    submission_id: str
    runtime_env: dict[str, Any]
    metadata: dict[str, str]
    resources: dict[str, Any]
    """The entrypoint's own: entrypoint_num_cpus and so on, as the job server names them."""


def make(profile: Profile, words: Sequence[str], environment: Mapping[str, str], root: Path) -> Job:
    """The job of a command.

    Args:
        profile: of the cluster.
        words: of the command, checked.
        environment: of the submitter; a few variables that are no secrets are passed on.
        root: folder of the packages to upload.

    Raises:
        ClusterError: a variable that would be passed on holds a credential.
    """
    out = out_of(words)
    return Job(
        entrypoint=entrypoint(profile.python, words),
        submission_id=submission_id(words),
        runtime_env=_runtime_env(profile, environment, root),
        metadata={"project": "m3d-condense", "command": words[0], **({"out": out} if out else {}), **profile.metadata},
        resources=_resources(profile),
    )


def submission_id(words: Sequence[str], attempt: int = 1) -> str:
    """A name that follows from the command, so that submitting it twice does not start it twice.

    Args:
        words: of the command.
        attempt: from 2 on for a command whose earlier jobs have ended.
    """
    out = out_of(words).rstrip("/").rsplit("/", 1)[-1]
    name = re.sub(r"[^A-Za-z0-9]+", "-", out).strip("-")[:40]
    digest = hashlib.sha256("\0".join(words).encode()).hexdigest()[:8]
    parts = ["m3d", words[0], *([name] if name else []), digest, *([str(attempt)] if attempt > 1 else [])]
    return "-".join(parts)


def command_line(job: Job, address: str) -> str:
    """The ``ray job submit`` line that does the same."""
    held = dict(job.runtime_env)
    folder = held.pop("working_dir", None)
    words = ["ray", "job", "submit", "--address", address, "--submission-id", job.submission_id]
    words += ["--working-dir", folder] if folder else []
    words += ["--runtime-env-json", json.dumps(held), "--metadata-json", json.dumps(job.metadata)]
    for name, value in job.resources.items():
        words += [f"--{name.replace('_', '-')}", json.dumps(value)]
    return f"{shlex.join(words)} -- {job.entrypoint}"


def _runtime_env(profile: Profile, environment: Mapping[str, str], root: Path) -> dict[str, Any]:
    ray = {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT_S), "RAY_DEDUP_LOGS_SKIP_REGEX": LEFT_OUT}
    variables = {**ray, **passed_on(environment), **profile.env}
    made: dict[str, Any] = {"env_vars": variables}
    if profile.upload:
        made |= {"working_dir": str(root), "excludes": list(EXCLUDES)}
    if profile.pip:
        made["pip"] = list(profile.pip)
    return made


def _resources(profile: Profile) -> dict[str, Any]:
    names = ("entrypoint_num_cpus", "entrypoint_num_gpus", "entrypoint_memory", "entrypoint_resources")
    return {name: value for name in names if (value := getattr(profile, name))}


def submit(client: "JobSubmissionClient", address: str, job: Job, words: Sequence[str]) -> tuple[str, bool]:
    """Submits a job, unless the same command runs already; returns its name, and whether it is new.

    A command whose earlier jobs have ended gets the next free name.

    Raises:
        ClusterError: the cluster refuses it.
    """
    with asking(address):
        taken = {found.submission_id: status_of(found) for found in client.list_jobs()}
    names = (submission_id(words, attempt) for attempt in range(1, 10_000))
    for name in names:
        if taken.get(name) in ("PENDING", "RUNNING"):
            return name, False
        if name not in taken:
            break
    with asking(address):
        client.submit_job(
            entrypoint=job.entrypoint,
            submission_id=name,
            runtime_env=job.runtime_env,
            metadata=job.metadata,
            **job.resources,
        )
    return name, True
