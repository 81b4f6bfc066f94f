"""The command line: ``python -m pipeline COMMAND``."""

import os
import signal
import sys
import threading
from collections.abc import Sequence
from types import FrameType

from m3d.config import ConfigError
from pipeline.cli.parser import _parser
from pipeline.config.storage import Storage
from pipeline.errors import FailedError, Interrupted, UserError
from pipeline.storage import s3


def console() -> None:
    """Entry point of the ``m3d`` script."""
    sys.exit(main())


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns its exit code: 0, 1 for a failure, 2 for a mistake in the call, 130 when interrupted."""
    parser = _parser()
    given = parser.parse_args(arguments)
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # Ray's coming default; silences its warning
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _as_interrupt)
    try:
        s3.use(Storage())  # until a configuration is read
        return given.action(given) or 0
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Interrupted as stopped:
        told = str(stopped) or "checkpoints are saved; the same command goes on from them"
        return _fail(f"interrupted: {told}", 130)
    except KeyboardInterrupt:
        return _fail("interrupted; the same command goes on where it ended", 130)
    except (UserError, ConfigError) as error:
        if given.debug:
            raise
        return _fail(f"error: {error}", 2)
    except FailedError as error:
        if given.debug:
            raise
        return _fail(f"failed: {error}", 1)
    except Exception as error:
        if given.debug:
            raise
        first = (str(error).strip().splitlines() or [""])[0]
        return _fail(f"failed: {type(error).__name__}: {first} (an error of this program; --debug shows where)", 1)


def _as_interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _fail(text: str, code: int) -> int:
    print(" ".join(text.splitlines()), file=sys.stderr)
    return code
