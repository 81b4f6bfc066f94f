"""Whether this process was asked to stop, for a thread that would otherwise end it as failed."""

import threading
import time

LINE = "interrupted; repeat the command to resume"
"""What an interrupted command prints."""


class _Interruption:
    def __init__(self) -> None:
        self.began, self.ends = threading.Event(), 0.0


_interruption = _Interruption()


def begin(seconds: float) -> None:
    """Notes that the process was asked to stop. A signal handler may call it.

    Args:
        seconds: that the process may take to save its work.
    """
    _interruption.ends = time.monotonic() + seconds
    _interruption.began.set()


def seconds_left() -> float | None:
    """Seconds that the process may still take to save its work; None if it was not asked to stop."""
    return max(0.0, _interruption.ends - time.monotonic()) if _interruption.began.is_set() else None


def forget() -> None:
    """Begins anew, with the next command of the same process."""
    _interruption.began.clear()
