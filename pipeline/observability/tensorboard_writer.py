"""Curves of a run for TensorBoard, in local folders only."""

import contextlib
import time
from pathlib import Path

from pipeline import storage

FLUSH_S = 5.0
"""Seconds between two flushes of the event file."""


class TensorBoardWriter:
    """Writes points of curves as they come. A full disk costs curves, never the run."""

    def __init__(self, folder: str) -> None:
        """Args: the folder of the event files. Nothing is written if it is in a bucket."""
        self._folder = Path(folder) if storage.is_local(folder) else None
        self._writer = None
        self._flushed = time.monotonic()

    def add(self, tag: str, value: float, step: int) -> None:
        """Adds a point to a curve."""
        if self._folder is None:
            return
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]
        from tensorboardX.summary import scalar

        # Not its SummaryWriter: that one writes in a thread, and waits for it forever once the thread has died.
        with contextlib.suppress(OSError):
            if self._writer is None:
                self._folder.mkdir(parents=True, exist_ok=True)
                self._writer = EventsWriter(str(self._folder / "events"))
            self._writer.write_event(Event(wall_time=time.time(), step=step, summary=scalar(tag, value)))
            if time.monotonic() - self._flushed >= FLUSH_S:
                self._writer.flush()
                self._flushed = time.monotonic()

    def close(self) -> None:
        """Writes the remaining points."""
        if self._writer is not None:
            with contextlib.suppress(OSError):
                self._writer.close()
            self._writer = None
