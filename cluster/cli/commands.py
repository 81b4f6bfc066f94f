"""What each command does, from its parsed options."""

import argparse
import os
import signal
import sys
from pathlib import Path

from cluster.errors import printable
from cluster.jobs import command_line, follow, job, profile, upload
from cluster.jobs.client import JobServer, address_of, connect, errors_in_one_line
from cluster.jobs.listing import described, table
from cluster.jobs.outcome import ENDED, exit_code, status_of, summary
from cluster.local import lifecycle
from cluster.local.node import NodeOptions


def submit(options: argparse.Namespace) -> int:
    """``submit``: submits the command after ``--``, and follows the job. Returns the job's exit code."""
    chosen = profile.read(options.profile, os.environ) if options.profile else profile.Profile()
    command_line.check(options.words, os.environ)
    address = address_of(options.address, chosen.address, os.environ)
    root = upload.project()
    size = upload.check_size(root) if chosen.upload else 0
    prepared = job.prepare(chosen, options.words, os.environ, root)
    if options.dry_run:
        print(job.command_line(prepared, address))
        return 0
    server = connect(address)
    name, is_new = job.submit(server, prepared, options.words)
    if is_new:
        sent = f", {size / 2**20:.1f} MiB of code" if size else ""
        print(f"job {name}: submitted to {address}{sent}", flush=True)
    else:
        print(f"job {name}: this command is already running at {address}; it is not started twice", flush=True)
    if options.no_wait:
        print(f"follow it with: python -m cluster logs --address {address} --follow {name}")
        return 0
    return _follow(server, name, options.stop_on_interrupt)


def status(options: argparse.Namespace) -> int:
    """``status``: prints one line about a job."""
    print(printable(described(follow.details(_server(options), options.job))))
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
    print(printable(f"job {options.job}: {summary(follow.stop(server, options.job))}"))
    return 0


def list_jobs(options: argparse.Namespace) -> int:
    """``list``: prints a table of all jobs."""
    server = _server(options)
    with errors_in_one_line(server.address):
        jobs = server.client.list_jobs()
    print(printable(table(jobs)))
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
    return 0


def down_local(options: argparse.Namespace) -> int:
    """``down-local``: stops the cluster of a folder."""
    cluster = lifecycle.down(Path(options.folder).absolute())
    print(f"{options.folder}: {'nothing was running' if cluster is None else _count(len(cluster.nodes)) + ' stopped'}")
    return 0


def _server(options: argparse.Namespace) -> JobServer:
    return connect(address_of(options.address, None, os.environ))


def _follow(server: JobServer, name: str, stop_on_interrupt: bool) -> int:
    try:
        details = follow.follow(server, name)
    except KeyboardInterrupt:
        return follow.decide(server, name, stop_on_interrupt)
    code = exit_code(details)
    print(printable(f"job {name}: {summary(details)}"), file=sys.stderr if code else sys.stdout)
    return code


def _count(nodes: int) -> str:
    return "1 node is" if nodes == 1 else f"{nodes} nodes are"
