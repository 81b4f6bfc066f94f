"""Runs a command as a process of its own, and stops one of its workers as if its machine hung."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

ENVIRONMENT = {**{k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}, "RAY_AUTH_MODE": "disabled"}
TIMEOUT_S = 500
"""Seconds for a command with a stall; most of them are those of a busy machine."""
IDLE = ("ray::IDLE", "ray::SPILL", "ray::RESTORE", "ray::DELETE")
"""Titles of Ray's processes that do not work."""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A command that has ended."""

    code: int
    output: str
    errors: str
    victims: int
    """Number of processes that were stopped."""


def pipeline(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a command undisturbed."""
    return subprocess.run(
        [sys.executable, "-m", "pipeline", *arguments],
        capture_output=True,
        text=True,
        env={**ENVIRONMENT, **environment},
        timeout=TIMEOUT_S,
    )


def stopped_once(*arguments: str, victim: Callable[[psutil.Process], psutil.Process | None], folder: Path) -> Ended:
    """Runs a command, and stops the first of its processes that ``victim`` returns.

    Args:
        arguments: of the command line.
        victim: called with the driver until it returns one.
        folder: for the output.
    """
    with (folder / "stdout").open("w+") as output, (folder / "stderr").open("w+") as errors:
        driver = subprocess.Popen(
            [sys.executable, "-m", "pipeline", *arguments], stdout=output, stderr=errors, env=ENVIRONMENT
        )
        try:
            ends = time.monotonic() + TIMEOUT_S
            found = None
            while found is None and driver.poll() is None:
                assert time.monotonic() < ends, "no process to stop"
                with contextlib.suppress(psutil.Error):
                    found = victim(psutil.Process(driver.pid))
                    if found is not None:
                        found.suspend()
                time.sleep(0.01)
            code = driver.wait(timeout=TIMEOUT_S)
        finally:
            driver.kill()
            driver.wait(timeout=60)
    texts = [(folder / name).read_text() for name in ("stdout", "stderr")]
    return Ended(code=code, output=texts[0], errors=texts[1], victims=int(found is not None))


def worker(*words: str) -> Callable[[psutil.Process], psutil.Process | None]:
    """Returns what finds a worker of the driver: the first whose title contains one of the words."""

    def find(driver: psutil.Process) -> psutil.Process | None:
        for process in driver.children(recursive=True):
            with contextlib.suppress(psutil.Error, IndexError):
                title = process.cmdline()[0]
                if title.startswith("ray::") and not title.startswith(IDLE) and any(word in title for word in words):
                    return process
        return None

    return find
