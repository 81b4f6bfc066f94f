"""A job as it is sent to Ray: entrypoint, stable submission id, runtime environment, resources, metadata."""

import hashlib
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NotRequired, TypedDict

from cluster.jobs.client import JobServer, errors_in_one_line
from cluster.jobs.command_line import entrypoint, out_of
from cluster.jobs.credentials import passed_on
from cluster.jobs.outcome import status_of
from cluster.jobs.profile import Profile
from cluster.jobs.upload import EXCLUDES

STOP_WAIT_S = 30
"""Seconds that a stopped job has to save its checkpoints before Ray kills it. Ray's default is 3."""
HIDDEN_LINES = "Raylet is terminated|has been marked dead"
"""Messages of Ray that a job's output omits: pages of a dead node's log. The run reports a lost actor in one line."""


class RuntimeEnv(TypedDict):
    """Ray's runtime environment of a job."""

    env_vars: dict[str, str]
    working_dir: NotRequired[str]
    excludes: NotRequired[list[str]]
    pip: NotRequired[list[str]]


class DriverResources(TypedDict, total=False):
    """Resources that the job's driver reserves, as the job server names them."""

    entrypoint_num_cpus: float
    entrypoint_num_gpus: float
    entrypoint_memory: int
    entrypoint_resources: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Job:
    """Everything that is sent to Ray's job server."""

    entrypoint: str
    submission_id: str
    runtime_env: RuntimeEnv
    metadata: dict[str, str]
    resources: DriverResources


def prepare(profile: Profile, words: Sequence[str], environment: Mapping[str, str], root: Path) -> Job:
    """The job that runs a command.

    Args:
        profile: of the cluster.
        words: of the command, checked.
        environment: of the submitter; a few variables that are not secret are passed on.
        root: folder of the packages to upload.

    Raises:
        ClusterError: a variable to be passed on contains a credential.
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
        attempt: 2 and more for a command whose earlier jobs have ended.
    """
    out = out_of(words).rstrip("/").rsplit("/", 1)[-1]
    name = re.sub(r"[^A-Za-z0-9]+", "-", out).strip("-")[:40]
    digest = hashlib.sha256("\0".join(words).encode()).hexdigest()[:8]
    parts = ["m3d", words[0], *([name] if name else []), digest, *([str(attempt)] if attempt > 1 else [])]
    return "-".join(parts)


def command_line(job: Job, address: str, variables: Mapping[str, str] | None = None) -> str:
    """The equivalent ``ray job submit`` line for a shell.

    Ray joins the words after ``--`` with the same quoting as ``entrypoint``, so the job gets every word as it is given.

    Args:
        job: to be submitted.
        address: of the job server.
        variables: to be set for this line alone.
    """
    assignments = "".join(f"{name}={shlex.quote(value)} " for name, value in (variables or {}).items())
    runtime_env = {key: value for key, value in job.runtime_env.items() if key != "working_dir"}
    words = ["ray", "job", "submit", "--address", address, "--submission-id", job.submission_id]
    if "working_dir" in job.runtime_env:
        words += ["--working-dir", job.runtime_env["working_dir"]]
    words += ["--runtime-env-json", json.dumps(runtime_env), "--metadata-json", json.dumps(job.metadata)]
    for name, value in job.resources.items():
        words += [f"--{name.replace('_', '-')}", json.dumps(value)]
    return f"{assignments}{shlex.join(words)} -- {job.entrypoint}"


def submit(server: JobServer, job: Job, words: Sequence[str]) -> tuple[str, bool]:
    """Submits a job, unless the same command is already running; returns its name, and whether it is new.

    A command whose earlier jobs have ended gets the next free name.

    Raises:
        ClusterError: the cluster refuses it.
    """
    with errors_in_one_line(server.address):
        taken = {other.submission_id: status_of(other) for other in server.client.list_jobs()}
    names = (submission_id(words, attempt) for attempt in range(1, 10_000))
    for name in names:
        if taken.get(name) in ("PENDING", "RUNNING"):
            return name, False
        if name not in taken:
            break
    with errors_in_one_line(server.address):
        server.client.submit_job(
            entrypoint=job.entrypoint,
            submission_id=name,
            runtime_env={**job.runtime_env},
            metadata=job.metadata,
            **job.resources,
        )
    return name, True


def _runtime_env(profile: Profile, environment: Mapping[str, str], root: Path) -> RuntimeEnv:
    ray = {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT_S), "RAY_DEDUP_LOGS_SKIP_REGEX": HIDDEN_LINES}
    runtime_env: RuntimeEnv = {"env_vars": {**ray, **passed_on(environment), **profile.env}}
    if profile.upload:
        runtime_env["working_dir"], runtime_env["excludes"] = str(root), list(EXCLUDES)
    if profile.pip:
        runtime_env["pip"] = list(profile.pip)
    return runtime_env


def _resources(profile: Profile) -> DriverResources:
    """The profile's resources of the driver that are not 0 or empty."""
    resources: DriverResources = {}
    if profile.entrypoint_num_cpus:
        resources["entrypoint_num_cpus"] = profile.entrypoint_num_cpus
    if profile.entrypoint_num_gpus:
        resources["entrypoint_num_gpus"] = profile.entrypoint_num_gpus
    if profile.entrypoint_memory:
        resources["entrypoint_memory"] = profile.entrypoint_memory
    if profile.entrypoint_resources:
        resources["entrypoint_resources"] = dict(profile.entrypoint_resources)
    return resources
