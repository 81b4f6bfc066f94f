"""The program as the user started it: its name, its version, and the commands that other packages add to it."""

import argparse
import sys
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from pipeline.errors import FailedError, UserError
from pipeline.installation import DISTRIBUTION

MODULE, SCRIPT = "python -m pipeline", "m3d"
"""The two ways to start the program."""
COMMANDS, PARSERS = "m3d_condense.commands", "m3d_condense.parsers"
"""Groups of entry points in pyproject.toml: functions that run the command of another package, and that make its parser."""
OTHERS = {"cluster": "submit runs as Ray jobs and follow them; start a cluster on this machine"}
"""Commands of other packages, which ``m3d`` passes on with all words behind them."""


def started_as() -> str:
    """Returns the name under which the program was started: ``m3d`` or ``python -m pipeline``."""
    return SCRIPT if Path(sys.argv[0]).stem.lower() == SCRIPT else MODULE


def version() -> str:
    """Returns the version of this project."""
    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return "unknown (not installed)"


def run_other(words: Sequence[str]) -> int:
    """Runs the command of another package; returns its exit code.

    Args:
        words: the command and all that follows it.
    """
    name = words[0]
    return _loaded(COMMANDS, name)(list(words[1:]), program=f"{SCRIPT} {name}")


def parser_of(name: str) -> argparse.ArgumentParser:
    """Returns the parser of another package's command."""
    return _loaded(PARSERS, name)(program=f"{SCRIPT} {name}")


def _loaded(group: str, name: str) -> Callable[..., Any]:
    """Returns the function behind an entry point.

    Raises:
        UserError: the installed version has no such command.
        FailedError: the package behind it cannot be imported.
    """
    try:
        points = metadata.distribution(DISTRIBUTION).entry_points.select(group=group, name=name)
    except metadata.PackageNotFoundError:
        points = ()
    for point in points:
        try:
            return point.load()
        except (ImportError, AttributeError) as error:
            if isinstance(error, ModuleNotFoundError) and error.name and not error.name.startswith(name):
                raise  # a package that is not installed
            raise FailedError(f"{point.value}: cannot be imported ({error}); install {DISTRIBUTION} again") from None
    raise UserError(
        f"{SCRIPT} {name}: is not in the installed {DISTRIBUTION}; install it again (in a checkout: pip install --editable .), or use python -m {name}"
    )


class ShowVersion(argparse.Action):
    """``--version``: prints the version, which is looked up only then."""

    def __init__(self, option_strings: Sequence[str], dest: str) -> None:
        super().__init__(option_strings, dest, nargs=0, default=argparse.SUPPRESS, help="print the version and exit")

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        print(f"{DISTRIBUTION} {version()}")
        parser.exit()
