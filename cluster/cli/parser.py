"""The parser of the command line: commands, options and their help."""

import argparse
from collections.abc import Callable
from typing import NoReturn

from cluster.cli import commands
from cluster.jobs import command_line
from cluster.text import one_line

Commands = argparse._SubParsersAction
MODULE = "python -m cluster"
"""How the program is started; ``m3d cluster`` is another way."""
FIRST_STEPS = (
    "up-local --nodes 3 --cpus 1",
    "submit --address http://HEAD:8265 -- run --preset digits_ipc1 --out /shared/runs/demo",
    "logs --address http://HEAD:8265 --follow m3d-run-demo-1a2b3c4d",
    "down-local",
)
"""Examples in the help of the program itself, as words after its name."""
EXAMPLES: dict[str, tuple[str, ...]] = {
    "submit": (
        "submit --address http://HEAD:8265 -- run --preset digits_ipc1 --out /shared/runs/demo",
        "submit --profile cluster.yaml --no-wait -- run --config /shared/photos.yaml --out /shared/runs/photos",
        "submit --profile cluster.yaml --dry-run -- plan --preset cifar10_ipc10 --data /shared/cifar",
    ),
    "status": ("status --address http://HEAD:8265 m3d-run-demo-1a2b3c4d",),
    "logs": ("logs --address http://HEAD:8265 --follow m3d-run-demo-1a2b3c4d",),
    "stop": ("stop --address http://HEAD:8265 m3d-run-demo-1a2b3c4d",),
    "list": ("list --address http://HEAD:8265",),
    "up-local": ("up-local", "up-local --nodes 3 --cpus 2"),
    "down-local": ("down-local",),
}
"""Examples in the help of every command."""
ENDING = """\
Exit codes: 0; that of the job for submit and logs --follow; 2 for a mistake or a cluster that does not answer;
130 if interrupted or stopped.
"""


class _Parser(argparse.ArgumentParser):
    """A parser whose messages repeat no long value, no control character and no credential."""

    def error(self, message: str) -> NoReturn:
        super().error(one_line(message))


def build_parser(program: str = MODULE) -> argparse.ArgumentParser:
    """The parser of all commands; parsed options have the command's function as ``action``.

    Args:
        program: name under which the program was started, for its help.
    """
    parser = _Parser(
        prog=program,
        description="Submit runs as Ray jobs and follow them; start a cluster of several nodes on this machine.",
        epilog=f"{_shown(FIRST_STEPS, program)}\n\n{ENDING}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    added = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_submit(added)
    _add_jobs(added)
    _add_local(added)
    added.choices["submit"].usage = f"{program} submit [options] -- COMMAND ..."
    jobs = f"The command after -- is one of {', '.join(command_line.COMMANDS)}, with its options.\n\n"
    for name, lines in EXAMPLES.items():
        added.choices[name].epilog = (jobs if name == "submit" else "") + _shown(lines, program)
        added.choices[name].formatter_class = argparse.RawDescriptionHelpFormatter
    return parser


def _shown(examples: tuple[str, ...], program: str) -> str:
    title = "example" if len(examples) == 1 else "examples"
    return "\n".join([f"{title}:", *(f"  {program} {words}" for words in examples)])


def _add_submit(added: "Commands[_Parser]") -> None:
    command = _command(added, "submit", "submit a command of the pipeline as a job and follow it", commands.submit)
    _add_address(command)
    command.add_argument(
        "--profile",
        metavar="FILE",
        help="YAML file with this cluster's needs, and the command if none follows --; see docs/cluster.md",
    )
    command.add_argument(
        "--dry-run", action="store_true", help="print the equivalent `ray job submit` line, and submit nothing"
    )
    command.add_argument("--no-wait", action="store_true", help="return as soon as the job is submitted")
    command.add_argument("--stop-on-interrupt", action="store_true", help="stop the job on Ctrl-C without asking")


def _add_jobs(added: "Commands[_Parser]") -> None:
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


def _add_local(added: "Commands[_Parser]") -> None:
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
    added: "Commands[_Parser]",
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
        default=commands.FOLDER,
        metavar="PATH",
        help="folder of the cluster; choose another for a second cluster (default: one per user in /tmp)",
    )
