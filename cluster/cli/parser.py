"""The parser of the command line: commands, options and their help."""

import argparse
import os
from collections.abc import Callable
from typing import NoReturn

from cluster.cli import commands
from cluster.errors import one_line
from cluster.jobs import command_line

Commands = argparse._SubParsersAction
FOLDER = f"/tmp/m3d-local-{os.getuid()}" if hasattr(os, "getuid") else "m3d-local"
"""Folder of the local cluster by default; short, since Ray creates sockets in it."""
EPILOG = """\
examples:
  python -m cluster up-local --nodes 3 --cpus 1
  python -m cluster submit --address http://HEAD:8265 -- run --preset digits_ipc1 --out /shared/runs/demo
  python -m cluster logs --address http://HEAD:8265 --follow m3d-run-demo-1a2b3c4d
  python -m cluster down-local

Exit codes: 0; that of the job for submit and logs --follow; 2 for a mistake or a cluster that does not answer;
130 if interrupted or stopped.
"""


class _Parser(argparse.ArgumentParser):
    """A parser whose messages repeat no long value, no control character and no credential."""

    def error(self, message: str) -> NoReturn:
        super().error(one_line(message))


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands; parsed options have the command's function as ``action``."""
    parser = _Parser(
        prog="python -m cluster",
        description="Submit runs as Ray jobs and follow them; start a cluster of several nodes on this machine.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    added = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_submit(added)
    _add_jobs(added)
    _add_local(added)
    return parser


def _add_submit(added: "Commands[argparse.ArgumentParser]") -> None:
    command = _command(added, "submit", "submit a command of the pipeline as a job and follow it", commands.submit)
    command.usage = "python -m cluster submit [options] -- COMMAND ..."
    command.epilog = f"The command after -- is one of {', '.join(command_line.COMMANDS)}, with its options."
    _add_address(command)
    command.add_argument("--profile", metavar="FILE", help="YAML file with this cluster's needs; see docs/cluster.md")
    command.add_argument(
        "--dry-run", action="store_true", help="print the equivalent `ray job submit` line, and submit nothing"
    )
    command.add_argument("--no-wait", action="store_true", help="return as soon as the job is submitted")
    command.add_argument("--stop-on-interrupt", action="store_true", help="stop the job on Ctrl-C without asking")


def _add_jobs(added: "Commands[argparse.ArgumentParser]") -> None:
    for name, text, action in (
        ("status", "print one line about a job", commands.status),
        ("logs", "print a job's output", commands.logs),
        ("stop", "stop a job; it saves its checkpoints first", commands.stop),
    ):
        command = _command(added, name, text, action)
        _add_address(command)
        command.add_argument("job", metavar="JOB", help="the submission id that submit printed")
        if name == "logs":
            command.add_argument(
                "--follow", action="store_true", help="follow the output until the job ends, and exit with its code"
            )
    _add_address(_command(added, "list", "list the jobs of a cluster", commands.list_jobs))


def _add_local(added: "Commands[argparse.ArgumentParser]") -> None:
    text = "start a cluster of several nodes on this machine, or add nodes to it"
    command = _command(added, "up-local", text, commands.up_local)
    for name, default, help_text in (
        ("nodes", 2, "number of nodes, including the head"),
        ("cpus", 1, "CPUs of each node"),
        ("gpus", 0, "logical GPUs of each node"),
    ):
        command.add_argument(
            f"--{name}", type=int, default=default, metavar="N", help=f"{help_text} (default: {default})"
        )
    _add_folder(command)
    _add_folder(_command(added, "down-local", "stop what up-local started, and nothing else", commands.down_local))


def _command(
    added: "Commands[argparse.ArgumentParser]",
    name: str,
    text: str,
    action: Callable[[argparse.Namespace], int],
) -> argparse.ArgumentParser:
    command = added.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    command.set_defaults(action=action)
    return command


def _add_address(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--address",
        metavar="URL",
        help="job server, such as http://HEAD:8265 (default: the variable RAY_API_SERVER_ADDRESS)",
    )


def _add_folder(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--folder",
        default=FOLDER,
        metavar="PATH",
        help="folder of the cluster; choose another for a second cluster (default: one per user in /tmp)",
    )
