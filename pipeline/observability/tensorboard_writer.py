"""OUT/tensorboard: curves of a run for TensorBoard. Local folders only, like the other logs."""

import contextlib
import time
from pathlib import Path

from pipeline import storage

FLUSH_S = 5.0


class Scalars:
    """Writes scalars as they come; a disk that is full costs curves, never the run."""

    def __init__(self, out: str) -> None:
        self._folder = Path(storage.join(out, "tensorboard")) if storage.is_local(out) else None
        self._writer = None
        self._flushed = time.monotonic()

    def add(self, tag: str, value: float, step: int) -> None:
        """One point of a curve."""
        if self._folder is None:
            return
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]
        from tensorboardX.summary import scalar

        # Not its SummaryWriter: that one writes in a thread of its own, and waits for it forever once it has died.
        with contextlib.suppress(OSError):
            if self._writer is None:
                self._folder.mkdir(parents=True, exist_ok=True)
                self._writer = EventsWriter(str(self._folder / "events"))
            self._writer.write_event(Event(wall_time=time.time(), step=step, summary=scalar(tag, value)))
            if time.monotonic() - self._flushed >= FLUSH_S:
                self._writer.flush()
                self._flushed = time.monotonic()

    def close(self) -> None:
        """Writes what is left."""
        if self._writer is not None:
            with contextlib.suppress(OSError):
                self._writer.close()
            self._writer = None
