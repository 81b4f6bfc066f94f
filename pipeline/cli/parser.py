"""The parser of the command line: commands, options and their help."""

import argparse
from collections.abc import Callable
from typing import NoReturn

from pipeline.cli import beginning, commands, completion, examples, program
from pipeline.config import presets
from pipeline.config.evaluate import SETS
from pipeline.errors import one_line
from pipeline.exports.registry import FORMATS

Commands = argparse._SubParsersAction
ENDING = """\
To resume an interrupted command, repeat it (tune: with --resume). Finished work is kept.
Exit codes: 0; 1 if something failed; 2 for a mistake in the call; 130 if interrupted.
"""


class _Parser(argparse.ArgumentParser):
    """A parser whose messages repeat no long value, no control character and no credential."""

    def error(self, message: str) -> NoReturn:
        super().error(one_line(message))


def build_parser(started_as: str = program.MODULE) -> argparse.ArgumentParser:
    """The parser of all commands; parsed options have the command's function as ``action``.

    Args:
        started_as: name of the program in its help. The help of ``m3d`` lists the commands of other packages, too.
    """
    parser = _Parser(
        prog=started_as,
        description="Condense a labelled image data set into a few synthetic images per class (M3D), on Ray.",
        epilog=f"{examples.shown(examples.FIRST_STEPS, started_as)}\n\n{ENDING}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=program.ShowVersion)
    added = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_beginning(added)
    _add_stages(added)
    _add_evaluate(added)
    _add_compare(added)
    _add_checks(added)
    _add_exchange(added)
    _add_plan(added)
    _add_tune(added)
    _add_configuration(_command(added, "show-config", "print the complete configuration as JSON", commands.show_config))
    _add_completion(added)
    for name, lines in examples.EXAMPLES.items():
        added.choices[name].epilog = examples.shown(lines, started_as)
        added.choices[name].formatter_class = argparse.RawDescriptionHelpFormatter
    if started_as == program.SCRIPT:
        for name, text in program.OTHERS.items():
            added.add_parser(name, help=text, add_help=False)  # main passes it on before it parses
    return parser


def _add_beginning(added: "Commands[_Parser]") -> None:
    text = "look at a folder of images, propose settings for it and write them to a file"
    command = _command(added, "init", text, beginning.init)
    command.add_argument("folder", metavar="PATH", help="folder of the images, local or s3://")
    command.add_argument(
        "--out", metavar="FILE", help="file to write (.yaml or .json; default: NAME.yaml, by the name of PATH)"
    )
    command.add_argument(
        "--images-per-class", type=int, metavar="N", help="condensed images per class (default: what suits the data)"
    )
    command.add_argument("--force", action="store_true", help="overwrite the file")
    _command(added, "presets", "list the presets: data, size, cost and measured accuracy", beginning.presets)


def _add_completion(added: "Commands[_Parser]") -> None:
    text = "print a script that completes commands, options and presets in a shell"
    command = _command(added, "completion", text, beginning.completion)
    command.add_argument("shell", metavar="SHELL", choices=completion.SHELLS, help=" or ".join(completion.SHELLS))


def _add_stages(added: "Commands[_Parser]") -> None:
    for name, text, action in (
        ("run", "prepare, condense, evaluate and report; skip what is finished", commands.run),
        ("prepare", "decode the source once, into one uint8 Arrow file per class", commands.prepare),
        ("pretrain", "train networks on the full training set and store snapshots of them", commands.pretrain),
        ("condense", "condense all classes and store the condensed set", commands.condense),
    ):
        command = _command(added, name, text, action)
        _add_configuration(command)
        look = name == "prepare"
        command.add_argument("--out", required=not look, metavar="PATH", help="folder of the run")
        if look:
            text = "print what is found in the source and how it is read, without decoding or writing anything; needs no --out"
            command.add_argument("--look", action="store_true", help=text)


def _add_evaluate(added: "Commands[_Parser]") -> None:
    text = "train new networks on a run's condensed set and on baselines, and test them"
    command = _command(added, "evaluate", text, commands.evaluate)
    command.add_argument("run", metavar="RUN", help="folder of a run or of a condensed set")
    _add_training(command)
    command.add_argument(
        "--sets", metavar="A,B", help=f"training sets to evaluate: {', '.join(SETS)} (default: all but whole)"
    )
    command.add_argument("--data", metavar="PATH", help="folder of the data, if RUN is a condensed set without its run")


def _add_compare(added: "Commands[_Parser]") -> None:
    text = "train networks on several condensed sets, with the same protocol and seeds"
    command = _command(added, "compare", text, commands.compare)
    command.add_argument(
        "sets", nargs="+", metavar="SET", help="folder of a run or of a condensed set, or FILE.pt:LAYOUT[:factor=N]"
    )
    _add_training(command)
    command.add_argument("--preset", metavar="NAME", help="preset that describes the data, if no SET is a run")
    command.add_argument("--config", metavar="FILE", help="JSON or YAML file that describes the data instead")
    command.add_argument("--data", metavar="PATH", help="folder of the data, with --preset or --config")
    command.add_argument(
        "--out", metavar="PATH", help="folder for comparison.json; repeat the command with it to resume"
    )


def _add_checks(added: "Commands[_Parser]") -> None:
    command = _command(added, "report", "write a run's grid.png and report.html", commands.report)
    command.add_argument("run", metavar="RUN", help="folder of the run")
    _add_set(command)
    text = "check a run, a condensed set or stored networks; exit code 1 if anything is wrong"
    command = _command(added, "verify", text, commands.verify)
    command.add_argument("path", metavar="PATH", help="folder of a run, of a condensed set or of pretrained networks")
    _add_set(command)


def _add_exchange(added: "Commands[_Parser]") -> None:
    text = "write a condensed set in the format of another tool or project"
    command = _command(added, "export", text, commands.export)
    command.add_argument("set", metavar="SET", help="folder of a run or of a condensed set")
    command.add_argument("--to", required=True, metavar="NAME", help=f"format: {', '.join(FORMATS)}")
    command.add_argument("--out", required=True, metavar="PATH", help="new folder for the files, local or s3://")
    text = "decoded writes every tile as a full-size image, stored writes the images as they are (default: what the format's readers expect)"
    command.add_argument("--views", metavar="NAME", help=text)
    command.add_argument("--name", metavar="TEXT", help="name of the data (default: that of the set)")
    command.add_argument(
        "--licence", metavar="TEXT", help="licence of the data, such as cc-by-4.0 (default: that of the set)"
    )
    _add_set(command)
    text = "store a file of another tool or project as a condensed set"
    command = _command(added, "import", text, commands.import_)
    command.add_argument("file", metavar="FILE", help="file, or folder of an export")
    command.add_argument("--from", dest="format", required=True, metavar="NAME", help=f"format: {', '.join(FORMATS)}")
    command.add_argument("--out", required=True, metavar="PATH", help="new folder for the set, local or s3://")
    text = "run or condensed set of the same data, for class names, moments and settings (default: m3d.json beside the file)"
    command.add_argument("--like", metavar="SET", help=text)
    command.add_argument("--factor", type=int, metavar="N", help="tiles along a side of a stored image (default: 1)")
    for name, text in (("mean", "mean"), ("std", "standard deviation")):
        command.add_argument(
            f"--{name}", metavar="A/B/C", help=f"{text} by channel that the images are normalised with"
        )
    _add_set(command)


def _add_plan(added: "Commands[_Parser]") -> None:
    text = "estimate time, memory, disk space and GPU-hours of a run by a short calibration"
    command = _command(added, "plan", text, commands.plan)
    _add_configuration(command)
    command.add_argument("--gpus", type=int, metavar="N", help="also estimate condensing on N GPUs like this one")


def _add_tune(added: "Commands[_Parser]") -> None:
    text = "search for the bandwidth, learning rate and other settings that suit the data"
    command = _command(added, "tune", text, commands.tune)
    _add_configuration(command)
    command.add_argument("--out", required=True, metavar="PATH", help="folder of the search")
    command.add_argument("--trials", required=True, type=int, metavar="N", help="maximum number of trials")
    command.add_argument("--time-budget", metavar="TIME", help="end the search after this time, such as 2h or 90m")
    command.add_argument("--space", metavar="FILE", help="JSON or YAML file of what to search; see docs/tuning.md")
    command.add_argument("--resume", action="store_true", help="resume the search in PATH, if there is one")


def _command(
    added: "Commands[_Parser]",
    name: str,
    text: str,
    action: Callable[[argparse.Namespace], int | None],
) -> argparse.ArgumentParser:
    command = added.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    command.add_argument("--debug", action="store_true", help="show the traceback of an error")
    command.set_defaults(action=action)
    return command


def _add_training(command: argparse.ArgumentParser) -> None:
    for name, metavar, text in (
        ("architectures", "A,B", "networks to train, such as convnet3,resnet18"),
        ("seeds", "N", "number of networks per set and architecture"),
        ("protocol", "NAME", "training protocol: idc, dm, imagenet or imagenet100"),
    ):
        command.add_argument(f"--{name}", metavar=metavar, help=f"{text}; short for --set evaluate.{name}=...")
    _add_set(command)


def _add_configuration(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--preset",
        metavar="NAME",
        help=f"start from a preset: {', '.join(presets.families())} (default: {presets.DEFAULT})",
    )
    command.add_argument("--config", metavar="FILE", help="start from a JSON or YAML file, such as a run's config.json")
    command.add_argument("--data", metavar="PATH", help="folder of the data; short for --set data.path=PATH")
    _add_set(command)


def _add_set(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--set",
        dest="settings",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change one setting; may be repeated (show-config lists all settings)",
    )
