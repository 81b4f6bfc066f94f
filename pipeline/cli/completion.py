"""Scripts that complete the program's words in a shell. They are complete in themselves: no key press starts Python."""

import argparse
from typing import TYPE_CHECKING, Any

from pipeline.cli import program
from pipeline.config import presets
from pipeline.config.evaluate import SETS

if TYPE_CHECKING:
    from collections.abc import Iterator

SHELLS = ("bash", "zsh", "tcsh")
"""Shells for which a script can be made."""
FOLDERS, FILES = ("PATH", "RUN"), ("FILE", "SET")
"""What the help calls values that are folders, and those that are files."""
WORDS = {"preset": tuple(presets.PRESETS), "sets": SETS, "protocol": ("idc", "dm", "imagenet", "imagenet100")}
"""Values that options may have."""


def script(parser: argparse.ArgumentParser, shell: str) -> str:
    """Returns the script that completes the words after ``m3d``.

    Args:
        parser: of the program; it is changed, and parses nothing afterwards.
        shell: one of ``SHELLS``.
    """
    import shtab  # not at the top: only this command needs it

    for command in _with_subcommands(parser):
        for action in command._actions:
            if action.dest in WORDS and action.option_strings:
                action.choices = WORDS[action.dest]
            elif action.metavar in (*FOLDERS, *FILES):
                _set_complete(action, shtab.DIRECTORY if action.metavar in FOLDERS else shtab.FILE)
    return shtab.complete(parser, shell=shell)


def _set_complete(action: Any, value: Any) -> None:
    action.complete = value  # an attribute that shtab looks for


def _with_subcommands(parser: argparse.ArgumentParser) -> "Iterator[argparse.ArgumentParser]":
    """Yields a parser and those of its commands, other packages' included."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name in [name for name in action.choices if name in program.OTHERS]:
                action.choices[name] = program.parser_of(name)
            for command in action.choices.values():
                yield from _with_subcommands(command)
