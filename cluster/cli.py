"""The command line: ``python -m cluster COMMAND``."""

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cluster.errors import ClusterError
from cluster.jobs import command_line, follow, job, profile, upload
from cluster.jobs.client import address_of, asking, connect
from cluster.jobs.follow import decide
from cluster.jobs.listing import described, table
from cluster.local import lifecycle

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient


FOLDER = f"/tmp/m3d-local-{os.getuid()}" if hasattr(os, "getuid") else "m3d-local"
EPILOG = """\
examples:
  python -m cluster up-local --nodes 3 --cpus 1
  python -m cluster submit --address http://HEAD:8265 -- run --preset digits_ipc1 --out /shared/runs/demo
  python -m cluster logs --address http://HEAD:8265 --follow m3d-run-demo-1a2b3c4d
  python -m cluster down-local

Exit codes: 0, that of the job for submit and logs --follow, 2 for a mistake or a cluster that does not answer,
130 when interrupted or stopped.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns its exit code."""
    before, after = _split(sys.argv[1:] if arguments is None else list(arguments))
    parser = _parser()
    given, left = parser.parse_known_args(before)
    if left and given.action is _submit and after is None and not left[0].startswith("-"):
        return _fail(
            f"error: {left[0]}: write the command after --, as in: python -m cluster submit [options] -- {left[0]} ..."
        )
    if left:
        parser.error(f"unrecognized arguments: {' '.join(left)}")
    if after is not None and given.action is not _submit:
        return _fail("--: only submit takes a command after it")
    given.words = after or []
    try:
        return given.action(given)
    except ClusterError as error:
        return _fail(f"error: {' '.join(str(error).split())}")
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _split(arguments: list[str]) -> tuple[list[str], list[str] | None]:
    # argparse would look for its own options behind the first --.
    if "--" not in arguments:
        return arguments, None
    at = arguments.index("--")
    return arguments[:at], arguments[at + 1 :]


def _fail(text: str, code: int = 2) -> int:
    print(text, file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m cluster",
        description="Submit runs as Ray jobs and watch them; bring up a cluster of several nodes on this machine.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_submit(commands)
    for name, text, action in (
        ("status", "one line about a job", _status),
        ("logs", "print a job's output", _logs),
        ("stop", "stop a job; it saves its checkpoints first", _stop),
        ("list", "list the jobs of a cluster", _list),
    ):
        command = _command(commands, name, text, action)
        _add_address(command)
        if name != "list":
            command.add_argument("job", metavar="JOB", help="the submission id that submit printed")
        if name == "logs":
            command.add_argument(
                "--follow", action="store_true", help="go on until the job ends; its exit code is then this one's"
            )
    command = _command(
        commands, "up-local", "start a cluster of several nodes on this machine, or add nodes to it", _up
    )
    command.add_argument("--nodes", type=int, default=2, metavar="N", help="nodes, the head among them (default 2)")
    command.add_argument("--cpus", type=int, default=1, metavar="N", help="CPUs of each node (default 1)")
    command.add_argument("--gpus", type=int, default=0, metavar="N", help="logical GPUs of each node (default 0)")
    _add_folder(command)
    _add_folder(_command(commands, "down-local", "stop what up-local started, and nothing else", _down))
    return parser


def _add_submit(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = _command(commands, "submit", "submit a command of the pipeline as a job and follow it", _submit)
    command.usage = "python -m cluster submit [options] -- COMMAND ..."
    command.epilog = f"The command after -- is one of {', '.join(command_line.COMMANDS)}, with its options."
    _add_address(command)
    command.add_argument(
        "--profile", metavar="FILE", help="YAML file: what this cluster needs besides; see docs/cluster.md"
    )
    command.add_argument(
        "--dry-run", action="store_true", help="print the equivalent `ray job submit` line, and submit nothing"
    )
    command.add_argument("--no-wait", action="store_true", help="return as soon as the job is submitted")
    command.add_argument("--stop-on-interrupt", action="store_true", help="stop the job on Ctrl-C without asking")


def _command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    text: str,
    action: Callable[[argparse.Namespace], int],
) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    command.set_defaults(action=action)
    return command


def _add_address(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--address",
        metavar="URL",
        help="of the job server, such as http://HEAD:8265 (default: RAY_API_SERVER_ADDRESS)",
    )


def _add_folder(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--folder",
        default=FOLDER,
        metavar="PATH",
        help="of the cluster, for several at a time (default: one per user in /tmp)",
    )


def _submit(given: argparse.Namespace) -> int:
    held = profile.read(given.profile, os.environ) if given.profile else profile.Profile()
    command_line.check(given.words, os.environ)
    address = address_of(given.address, held.address, os.environ)
    root = upload.project()
    size = upload.check_size(root) if held.upload else 0
    made = job.make(held, given.words, os.environ, root)
    if given.dry_run:
        print(job.command_line(made, address))
        return 0
    client = connect(address)
    name, new = job.submit(client, address, made, given.words)
    if new:
        sent = f", {size / 2**20:.1f} MiB of code" if size else ""
        print(f"job {name}: submitted to {address}{sent}", flush=True)
    else:
        print(f"job {name}: this command runs already at {address}; it is not started twice", flush=True)
    if given.no_wait:
        print(f"follow it with: python -m cluster logs --address {address} --follow {name}")
        return 0
    return _follow(client, address, name, given.stop_on_interrupt)


def _follow(client: "JobSubmissionClient", address: str, name: str, stop_on_interrupt: bool) -> int:
    try:
        found = follow.follow(client, address, name)
    except KeyboardInterrupt:
        return decide(client, address, name, stop_on_interrupt)
    code = follow.exit_code(found)
    print(f"job {name}: {follow.ended(found)}", file=sys.stderr if code else sys.stdout)
    return code


def _status(given: argparse.Namespace) -> int:
    client, address = _client(given)
    print(described(follow.details(client, address, given.job)))
    return 0


def _logs(given: argparse.Namespace) -> int:
    client, address = _client(given)
    if given.follow:
        return _follow(client, address, given.job, False)
    with asking(address, given.job):
        print(client.get_job_logs(given.job), end="")
    return 0


def _stop(given: argparse.Namespace) -> int:
    client, address = _client(given)
    found = follow.details(client, address, given.job)
    if follow.status_of(found) in follow.ENDED:
        print(f"job {given.job}: had ended before ({follow.status_of(found)})")
        return 0
    print(f"job {given.job}: {follow.ended(follow.stop(client, address, given.job))}")
    return 0


def _list(given: argparse.Namespace) -> int:
    client, address = _client(given)
    with asking(address):
        found = client.list_jobs()
    print(table(found))
    return 0


def _client(given: argparse.Namespace) -> "tuple[JobSubmissionClient, str]":
    address = address_of(given.address, None, os.environ)
    return connect(address), address


def _up(given: argparse.Namespace) -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was begun is ended
    cluster = lifecycle.up(given.nodes, given.cpus, given.gpus, Path(given.folder).absolute(), os.environ)
    cpus, gpus = sum(node.cpus for node in cluster.nodes), sum(node.gpus for node in cluster.nodes)
    held = f"{cpus} CPUs" + (f", {gpus} logical GPUs" if gpus else "")
    print(f"{_count(len(cluster.nodes), 'node', 'is', 'are')} up ({held}); jobs and dashboard at", file=sys.stderr)
    print(cluster.address)
    return 0


def _down(given: argparse.Namespace) -> int:
    cluster = lifecycle.down(Path(given.folder).absolute())
    stopped = "nothing was running" if cluster is None else _count(len(cluster.nodes), "node", "is", "are") + " stopped"
    print(f"{given.folder}: {stopped}")
    return 0


def _count(number: int, name: str, one: str, many: str) -> str:
    return f"{number} {name} {one}" if number == 1 else f"{number} {name}s {many}"
