"""The parser of the command line: commands, flags and their help."""

import argparse
from collections.abc import Callable

from pipeline.cli import commands
from pipeline.config import presets
from pipeline.config.evaluate import SETS

EPILOG = """\
examples:
  python -m pipeline run --preset digits_ipc1 --out runs/demo
  python -m pipeline run --preset cifar10_ipc1 --data DIR --set data.source=parquet --out runs/cifar
  python -m pipeline evaluate runs/demo --architectures convnet3,mlp --seeds 5
  python -m pipeline compare runs/demo other.pt:idc:factor=2
  python -m pipeline tune --preset cifar10_ipc1 --data DIR --trials 30 --time-budget 2h --out runs/search
  python -m pipeline show-config --preset cifar10_ipc10

Repeating a command goes on where it ended.
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline",
        description="Condense a labelled image data set into a few synthetic images per class (M3D), on Ray.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    added = parser.add_subparsers(metavar="COMMAND", required=True)
    with_out = (
        ("run", "prepare, condense, evaluate and report; does what is missing", commands.run),
        ("prepare", "decode the source once, to one uint8 Arrow file per class", commands.prepare),
        ("pretrain", "train networks on the whole training set and store their snapshots", commands.pretrain),
        ("condense", "condense all classes and commit the set", commands.condense),
    )
    for name, text, action in with_out:
        command = _command(added, name, text, action)
        _add_common(command)
        command.add_argument("--out", required=True, metavar="PATH", help="folder of the run")
    for name, text, action in (
        ("evaluate", "train fresh networks on a run's condensed set and on its baselines", commands.evaluate),
        ("report", "write a run's grid.png and report.html", commands.report),
    ):
        command = _command(added, name, text, action)
        command.add_argument("run", metavar="RUN", help="folder of the run")
        if name == "evaluate":
            _add_evaluate(command)
            command.add_argument(
                "--sets", metavar="A,B", help=f"what to evaluate of {', '.join(SETS)} (default: all but whole)"
            )
            command.add_argument(
                "--data", metavar="PATH", help="folder of the data, where RUN is a condensed set alone"
            )
        else:
            _add_set(command)
    command = _command(
        added, "compare", "train networks on several condensed sets, with the same protocol and seeds", commands.compare
    )
    command.add_argument(
        "sets", nargs="+", metavar="SET", help="folder of a run or a condensed set, or FILE.pt:LAYOUT[:factor=N]"
    )
    _add_evaluate(command)
    command.add_argument("--preset", metavar="NAME", help="names the data where no SET is a run")
    command.add_argument("--config", metavar="FILE", help="the same by a JSON file")
    command.add_argument("--data", metavar="PATH", help="folder of the data, with --preset")
    command.add_argument("--out", metavar="PATH", help="folder for comparison.json; a repeated command goes on there")
    command = _command(
        added,
        "verify",
        "check a run, a condensed set or stored networks; exit code 1 if anything is wrong",
        commands.verify,
    )
    command.add_argument("path", metavar="PATH", help="folder of a run, of a condensed set, or that pretrain made")
    _add_set(command)
    command = _command(
        added, "plan", "predict time, memory, disk and GPU-hours of a run by a short calibration", commands.plan
    )
    _add_common(command)
    command.add_argument("--gpus", type=int, metavar="N", help="also say what condensing takes on N GPUs like this one")
    command = _command(
        added, "tune", "search for the bandwidth, learning rate and other settings that suit the data", commands.tune
    )
    _add_common(command)
    command.add_argument("--out", required=True, metavar="PATH", help="folder of the search")
    command.add_argument("--trials", required=True, type=int, metavar="N", help="settings that are tried, at most")
    command.add_argument("--time-budget", metavar="TIME", help="end the search after this time, such as 2h or 90m")
    command.add_argument("--space", metavar="FILE", help="JSON or YAML of what to search; see docs/tuning.md")
    command.add_argument("--resume", action="store_true", help="go on with the search in PATH, if there is one")
    command = _command(added, "show-config", "print the whole configuration as JSON", commands.show_config)
    _add_common(command)
    return parser


def _command(
    added: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    text: str,
    action: Callable[[argparse.Namespace], int | None],
) -> argparse.ArgumentParser:
    command = added.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    command.add_argument("--debug", action="store_true", help="show the traceback of an error")
    command.set_defaults(action=action)
    return command


def _add_evaluate(command: argparse.ArgumentParser) -> None:
    for name, metavar, text in (
        ("architectures", "A,B", "networks to train, such as convnet3,resnet18"),
        ("seeds", "N", "networks per set and architecture"),
        ("protocol", "NAME", "idc, dm, imagenet or imagenet100"),
    ):
        command.add_argument(f"--{name}", metavar=metavar, help=f"{text}; short for --set evaluate.{name}=...")
    _add_set(command)


def _add_common(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--preset",
        metavar="NAME",
        help=f"start from a whole configuration: {', '.join(presets.PRESETS)} (default {presets.DEFAULT})",
    )
    command.add_argument("--config", metavar="FILE", help="start from a JSON file, such as a run's config.json")
    command.add_argument("--data", metavar="PATH", help="folder of the data; short for --set data.path=PATH")
    _add_set(command)


def _add_set(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--set",
        dest="settings",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change one setting (repeatable); show-config lists them",
    )
