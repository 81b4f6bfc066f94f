"""One command of the pipeline as a process of its own, with its output in files and a bound on how long it may take."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

UNDISTURBED_S = 900.0
"""Most seconds of a command that nothing disturbs."""
LOST_S = 180.0
"""Most seconds that a kill may cost, those until it is noticed included."""
SLOWER = 3.0
"""How many times as long as the undisturbed run a command may take: other work may have begun on the machine."""


class Run:
    """A command that runs. Use it as a context: at its end the process group is killed if it is still there."""

    def __init__(
        self, arguments: Sequence[str], environment: Mapping[str, str], log: Path, limit_s: float = UNDISTURBED_S
    ) -> None:
        """Starts the command as the leader of a process group.

        Args:
            arguments: the command line.
            environment: all its variables.
            log: path of its output, to which ``.stdout`` and ``.stderr`` are added.
            limit_s: most seconds that the command may take.
        """
        self._limit_s = limit_s
        log.parent.mkdir(parents=True, exist_ok=True)
        self._stderr = log.with_suffix(".stderr")
        with open(log.with_suffix(".stdout"), "wb") as stdout, open(self._stderr, "wb") as stderr:
            self.began = time.monotonic()
            self._process = subprocess.Popen(
                list(arguments),
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                process_group=0,
            )

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(timeout=30)

    @property
    def pid(self) -> int:
        """Process id of the driver, and id of its group."""
        return self._process.pid

    @property
    def is_over(self) -> bool:
        """Whether the driver has ended."""
        return self._process.poll() is not None

    @property
    def is_late(self) -> bool:
        """Whether the command has taken too long."""
        return self.seconds > self._limit_s

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.began

    def code(self) -> int | None:
        """Waits for the end and returns the exit code, negative for a signal; None if the command takes too long."""
        try:
            return self._process.wait(timeout=max(1.0, self._limit_s - self.seconds))
        except subprocess.TimeoutExpired:
            return None

    def said(self) -> list[str]:
        """The lines on stderr."""
        return [line for line in self._stderr.read_text(errors="replace").splitlines() if line.strip()]


def limit_s(undisturbed_s: float) -> float:
    """Most seconds of a command of a trial, whose undisturbed run took so long."""
    return LOST_S + SLOWER * undisturbed_s


def environment(mark: tuple[str, str], address: str | None = None) -> dict[str, str]:
    """The variables of a command that starts a Ray of its own, or joins the cluster at ``address``.

    Args:
        mark: variable and value that tell the trial's processes from others.
        address: address of a cluster.
    """
    kept = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    joined = {"RAY_ADDRESS": address} if address else {}
    return {**kept, "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled", mark[0]: mark[1], **joined}
