"""The command line: ``python -m cluster COMMAND``."""

import io
import os
import sys
from collections.abc import Sequence

from cluster import installation
from cluster.cli import commands
from cluster.cli.parser import MODULE, build_parser
from cluster.errors import ClusterError
from cluster.text import LONGEST, one_line


def main(arguments: Sequence[str] | None = None, program: str = MODULE) -> int:
    """Runs a command; returns its exit code.

    Args:
        arguments: words of the command line; None takes those of the process.
        program: name under which the program was started, for its help.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what a terminal cannot show is no reason to fail
            stream.reconfigure(errors="backslashreplace")
    words = sys.argv[1:] if arguments is None else list(arguments)
    before, after = split(words)
    parser = build_parser(program)
    options, unknown = parser.parse_known_args(before)
    if unknown and options.action is commands.submit and after is None and not unknown[0].startswith("-"):
        word = unknown[0]
        return _fail(f"error: {word}: write the command after --, as in: {program} submit [options] -- {word} ...")
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    if after is not None and options.action is not commands.submit:
        return _fail("error: --: only submit takes a command after it")
    options.words = after or []
    try:
        installation.check()
        return options.action(options)
    except ClusterError as error:
        return _fail(f"error: {_without_long_words(str(error), words)}")
    except ModuleNotFoundError as error:
        return _fail(f"error: {installation.advice(error)}")
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def split(arguments: list[str]) -> tuple[list[str], list[str] | None]:
    """What precedes the first ``--`` and what follows it, or None. argparse would look for its own options there."""
    if "--" not in arguments:
        return arguments, None
    at = arguments.index("--")
    return arguments[:at], arguments[at + 1 :]


def _without_long_words(text: str, words: Sequence[str]) -> str:
    """The text with every long word of the command line cut; spaces may be part of it."""
    for word in sorted((word for word in words if len(word) > LONGEST), key=len, reverse=True):
        text = text.replace(word, f"{word[: LONGEST - 40]}... ({len(word)} characters)")
    return text


def _fail(text: str, code: int = 2) -> int:
    print(one_line(text), file=sys.stderr)
    return code
