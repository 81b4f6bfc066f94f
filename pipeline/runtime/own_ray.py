"""Watches the Ray that a command has started for itself. Without its raylet or its GCS no work would end.

Ray 2.60 waits for a dead raylet without end and for a dead GCS for a minute, and prints lines of its own logs.
"""

import atexit
import contextlib
import os
import sys
import threading
from collections.abc import Callable, Mapping

import psutil
import ray

from pipeline.observability import interruption

PROCESSES = {"raylet": "raylet", "gcs_server": "GCS"}
"""Names of the programs, and what Ray calls them."""
EVERY_S = 0.5
"""Seconds between two looks. Ray's own lines would come after some seconds."""


def watch() -> None:
    """Starts a thread that ends this process with one line and exit code 1 if the raylet or the GCS dies.

    Call it after ``ray.init`` has started them. Finished work is stored, so the same command resumes. Nothing else of
    this process runs any more: its other threads may wait for Ray without end.
    """
    over = threading.Event()
    atexit.register(over.set)  # runs before Ray's own function, which ends these processes
    children = {child.name(): child for child in psutil.Process().children()}
    processes = {called: children[name] for name, called in PROCESSES.items() if name in children}
    threading.Thread(target=_watch, args=(processes, over, _end), name="own-ray", daemon=True).start()


def _watch(processes: Mapping[str, psutil.Process], over: threading.Event, end: Callable[[str], None]) -> None:
    """Calls ``end`` with the name of the first process that dies, unless this process has disconnected from Ray before.

    A signal to all processes of a group ends Ray's as well. Then this process may save its work first.
    """
    while not over.wait(EVERY_S):
        dead = next((name for name, process in processes.items() if not _is_alive(process)), None)
        if not ray.is_initialized():  # asked last: a shutdown disconnects first
            return
        if dead is not None:
            over.wait(EVERY_S)  # the signal reaches Ray's processes and this one in any order
            while not over.is_set() and (seconds := interruption.seconds_left()):
                over.wait(min(seconds, EVERY_S))
            if not over.is_set() and ray.is_initialized():
                end(dead)
            return


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return False


def _end(name: str) -> None:
    with contextlib.suppress(OSError):
        if sys.stdout.isatty():
            sys.stdout.write("\x1b[?25h\n")  # the progress bar hides the cursor
        sys.stdout.flush()
    interrupted = interruption.seconds_left() is not None
    failed = (
        f"failed: the {name} of this run's own Ray has ended (killed, or out of memory); repeat the command to resume"
    )
    with contextlib.suppress(OSError):
        print(interruption.LINE if interrupted else failed, file=sys.stderr, flush=True)
    os._exit(130 if interrupted else 1)
