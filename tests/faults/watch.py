"""Counts what a run changes in its folder. A step is a change that is seen: a file that is new, written to, or gone."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

EVERY_S = 0.003
"""Seconds between two looks at the folder."""
UNWATCHED = ("search", "ray", "tensorboard")
"""Folders of Ray's and TensorBoard's own files, which are many."""
LEASE = "lease.json"
LEASE_FILES = ".lease."
"""Beginning of the names of its lock and of its unfinished writes."""
State = tuple[int, int]
"""Size, and time of the last change."""


class Steps:
    """The number of steps since the watch began. Renewals of the lease are no steps, its first appearance is one."""

    def __init__(self, folder: Path) -> None:
        """Begins to watch a folder, which need not exist yet."""
        self._folder = folder
        self._seen = seen(folder)
        self.count = 0

    def look(self) -> int:
        """Looks at the folder once, and returns the number of steps."""
        now = seen(self._folder)
        if now != self._seen:
            self._seen = now
            self.count += 1
        return self.count


def seen(folder: Path) -> dict[str, State]:
    """The state of every file below a folder that is watched, by path."""
    return dict(_states(str(folder)))


def _states(folder: str) -> Iterator[tuple[str, State]]:
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name in UNWATCHED or entry.name.startswith(LEASE_FILES):
                continue
            with contextlib.suppress(FileNotFoundError):  # gone since it was listed
                if entry.is_dir(follow_symlinks=False):
                    yield from _states(entry.path)
                elif entry.name == LEASE:
                    yield entry.path, (0, 0)
                else:
                    state = entry.stat(follow_symlinks=False)
                    yield entry.path, (state.st_size, state.st_mtime_ns)
