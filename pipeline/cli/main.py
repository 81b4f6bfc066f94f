"""The command line: ``python -m pipeline COMMAND``."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from types import FrameType

from m3d.config import LONGEST, ConfigError
from pipeline import installation
from pipeline.cli import program
from pipeline.cli.parser import build_parser
from pipeline.config.run_config import RunConfig
from pipeline.errors import FailedError, Interrupted, UserError, first_line, one_line, shown
from pipeline.observability import interruption
from pipeline.storage.settings import activate

INTERRUPT_S = 5.0
"""Seconds that a command has to end after SIGTERM, if its Ray was ended as well. A condensation takes longer."""


def console() -> None:
    """Entry point of ``python -m pipeline`` and of the ``m3d`` script."""
    code = main()
    with contextlib.suppress(OSError):  # reported when the interpreter flushes again
        sys.stdout.flush()
    for number in (signal.SIGINT, signal.SIGTERM):
        # The command is over. An interrupt of Ray's orderly end would print a traceback; Ray's processes end with this one.
        signal.signal(number, lambda *_: os._exit(code))
    sys.exit(code)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns its exit code: 0, 1 for a failure, 2 for a mistake in the call, 130 when interrupted."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    started_as = program.started_as()
    if started_as == program.SCRIPT and words[:1] and words[0] in program.OTHERS:
        return _guarded(lambda: program.run_other(words), words, debug=False)
    options = build_parser(started_as).parse_args(words)
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # Ray's coming default; silences its warning
    interruption.forget()
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _as_interrupt)

    def act() -> int:
        activate(RunConfig())  # until the command's own configuration is read
        return options.action(options) or 0

    return _guarded(act, words, debug=options.debug)


def _guarded(act: Callable[[], int], words: Sequence[str], *, debug: bool) -> int:
    """Runs a command; returns its exit code. Prints one line for every error.

    Args:
        act: the command.
        words: of the command line.
        debug: raise errors instead.
    """
    try:
        installation.check()
        return act()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Interrupted as stopped:
        return _fail(f"interrupted: {str(stopped) or 'checkpoints are saved; repeat the command to resume'}", 130)
    except KeyboardInterrupt:
        return _fail(interruption.LINE, 130)
    except (UserError, ConfigError) as error:
        if debug:
            raise
        return _fail(f"error: {_without_long_words(str(error), words)}", 2)
    except FailedError as error:
        if debug:
            raise
        return _fail(f"failed: {error}", 1)
    except Exception as error:
        if debug:
            raise
        if isinstance(error, ModuleNotFoundError) and (advice := installation.advice(error)):
            return _fail(f"error: {advice}", 2)
        return _fail(
            f"failed: {type(error).__name__}: {first_line(error)} (unexpected; add --debug for the traceback)", 1
        )


def check(words: Sequence[str]) -> int:
    """Checks a command without running it, as far as this machine can know; returns 2 for a mistake, else 0.

    ``python -m cluster submit`` calls this before it uploads anything.
    """
    from pipeline.cli.check import check as check_options  # imports torch

    options = build_parser().parse_args(list(words))

    def act() -> int:
        activate(RunConfig())
        check_options(options)
        return 0

    return _guarded(act, words, debug=False)


def _as_interrupt(number: int, frame: FrameType | None) -> None:
    interruption.begin(INTERRUPT_S)
    raise KeyboardInterrupt


def _without_long_words(text: str, words: Sequence[str]) -> str:
    """The text with a long word of the command line, or the value in it, cut: only a word's own limits are sure."""
    values = [part for word in words for part in (word, word.partition("=")[2])]
    for value in sorted((value for value in values if len(value) > LONGEST), key=len, reverse=True):
        text = text.replace(value, shown(value)[1:-1])
    return text


def _fail(text: str, code: int) -> int:
    print(one_line(text), file=sys.stderr)
    return code
