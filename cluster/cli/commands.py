"""What each command does, from its parsed options."""

import argparse
import os
import shlex
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from cluster.errors import ClusterError
from cluster.jobs import command_line, follow, job, profile, upload, validate
from cluster.jobs.client import JobServer, address_of, connect, errors_in_one_line
from cluster.jobs.listing import described, table
from cluster.jobs.outcome import ENDED, exit_code, status_of, summary
from cluster.jobs.progress import progress_of
from cluster.local import lifecycle, token
from cluster.local.node import LOOPBACK_ONLY, NodeOptions

FOLDER = f"/tmp/m3d-local-{os.getuid()}" if hasattr(os, "getuid") else "m3d-local"
"""Folder of the local cluster by default; short, since Ray creates sockets in it."""


def submit(options: argparse.Namespace) -> int:
    """``submit``: submits the command after ``--``, and follows the job. Returns the job's exit code."""
    chosen = profile.read(options.profile, os.environ) if options.profile else profile.Profile()
    options.words = options.words or _words(chosen.command, options.profile)
    command_line.check(options.words, os.environ)
    address = address_of(options.address, chosen.address, os.environ)
    root = upload.project()
    size = upload.check_size(root) if chosen.upload else 0
    prepared = job.prepare(chosen, options.words, os.environ, root)
    found = token.variables_for(address, Path(FOLDER), os.environ)
    if options.dry_run:
        _print_exactly(job.command_line(prepared, address, {**_overriding(address), **found}))
        return 0
    validate.check(options.words, str(root))
    server = _connect(address, found)
    name, is_new = job.submit(server, prepared, options.words)
    if is_new:
        sent = f", {size / 2**20:.1f} MiB of code" if size else ""
        print(f"job {name}: submitted to {address}{sent}", flush=True)
    else:
        print(f"job {name}: this command is already running at {address}; it is not started twice", flush=True)
    if options.no_wait:
        print(f"follow it with: python -m cluster logs --address {shlex.quote(address)} --follow {name}")
        return 0
    return _follow(server, name, options.stop_on_interrupt)


def _words(command: str, profile_path: str | None) -> list[str]:
    """The words of a profile's command. Raises ClusterError for a quotation without an end."""
    try:
        return shlex.split(command)
    except ValueError as error:
        raise ClusterError(f"--profile {profile_path}: command: {str(error).lower()}; quote it as in a shell") from None


def status(options: argparse.Namespace) -> int:
    """``status``: prints one line about a job."""
    server = _server(options)
    found = follow.details(server, options.job)
    print(described(found, progress_of(server, found)))
    return 0


def logs(options: argparse.Namespace) -> int:
    """``logs``: prints the output of a job, with ``--follow`` until the job ends."""
    server = _server(options)
    if options.follow:
        return _follow(server, options.job, False)
    with errors_in_one_line(server.address, options.job):
        print(server.client.get_job_logs(options.job), end="")
    return 0


def stop(options: argparse.Namespace) -> int:
    """``stop``: stops a job and waits until it has ended."""
    server = _server(options)
    details = follow.details(server, options.job)
    if status_of(details) in ENDED:
        print(f"job {options.job}: had already ended ({status_of(details)})")
        return 0
    print(f"job {options.job}: {summary(follow.stop(server, options.job))}")
    return 0


def list_jobs(options: argparse.Namespace) -> int:
    """``list``: prints a table of all jobs."""
    server = _server(options)
    with errors_in_one_line(server.address):
        jobs = server.client.list_jobs()
    print(table(jobs, lambda each: progress_of(server, each)))
    return 0


def up_local(options: argparse.Namespace) -> int:
    """``up-local``: starts missing nodes, and prints the address of the job server on stdout."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that half-started nodes are stopped
    node_options = NodeOptions(
        cpus=options.cpus, gpus=options.gpus, folder=Path(options.folder).absolute(), environment=os.environ
    )
    cluster = lifecycle.up(options.nodes, node_options)
    cpus, gpus = sum(node.cpus for node in cluster.nodes), sum(node.gpus for node in cluster.nodes)
    total = f"{cpus} CPUs" + (f", {gpus} logical GPUs" if gpus else "")
    print(f"{_count(len(cluster.nodes))} up ({total}); jobs and dashboard at", file=sys.stderr)
    print(cluster.address)
    if found := token.variables(node_options.folder):
        assignments = " ".join(f"{name}={shlex.quote(value)}" for name, value in {**found, **LOOPBACK_ONLY}.items())
        print(f"python -m cluster finds the token; Ray's own tools need {assignments}", file=sys.stderr)
    else:
        print(
            "without a token (RAY_AUTH_MODE=disabled): every user of this machine can run code as you", file=sys.stderr
        )
    return 0


def down_local(options: argparse.Namespace) -> int:
    """``down-local``: stops the cluster of a folder."""
    cluster = lifecycle.down(Path(options.folder).absolute())
    print(f"{options.folder}: {'nothing was running' if cluster is None else _count(len(cluster.nodes)) + ' stopped'}")
    return 0


def _server(options: argparse.Namespace) -> JobServer:
    address = address_of(options.address, None, os.environ)
    return _connect(address, token.variables_for(address, Path(FOLDER), os.environ))


def _connect(address: str, variables: Mapping[str, str]) -> JobServer:
    """Connects with these variables set, by which Ray's client finds the token."""
    os.environ.update(variables)
    return connect(address)


def _overriding(address: str) -> dict[str, str]:
    """What a line for Ray needs in an environment with another address, which Ray prefers to its own option."""
    others = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
    return {others[0]: address} if any(os.environ.get(name, address) != address for name in others) else {}


def _print_exactly(line: str) -> None:
    """Prints a line to be pasted. Raises ClusterError if the encoding of stdout would change it."""
    try:
        line.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        raise ClusterError(
            f"--dry-run: the command has characters that {sys.stdout.encoding}, the encoding of stdout, lacks; "
            "set PYTHONIOENCODING=utf-8"
        ) from None
    print(line)


def _follow(server: JobServer, name: str, stop_on_interrupt: bool) -> int:
    try:
        details = follow.follow(server, name)
    except KeyboardInterrupt:
        return follow.decide(server, name, stop_on_interrupt)
    code = exit_code(details)
    print(f"job {name}: {summary(details)}", file=sys.stderr if code else sys.stdout)
    return code


def _count(nodes: int) -> str:
    return "1 node is" if nodes == 1 else f"{nodes} nodes are"
