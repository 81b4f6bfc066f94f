"""When a group's state is saved."""

import time
from concurrent.futures import Future, ThreadPoolExecutor

from m3d import CondenseState
from pipeline.config import Resources
from pipeline.ledger import Ledger, snapshot


class Checkpoints:
    """Saves a group's state every so often: copied at once, written in the background, one write at a time."""

    def __init__(self, ledger: Ledger, group: int, settings: Resources, iteration: int) -> None:
        self.ledger, self.group, self.settings = ledger, group, settings
        self.saved_at, self.saved_s = iteration, time.monotonic()
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._writing: Future[None] | None = None

    def after(self, state: CondenseState) -> None:
        """Called after every iteration; saves when it is time and the last write is through."""
        every = self.settings.checkpoint_every
        if every is None:
            due = time.monotonic() - self.saved_s >= self.settings.checkpoint_every_s
        else:
            due = state.iteration - self.saved_at >= every
        # With a number of iterations the interval is a promise: a slow write is waited for.
        if due and (every is not None or self._writing is None or self._writing.done()):
            self.save(state)

    def save(self, state: CondenseState) -> None:
        """Starts to write a copy of the state. Raises what went wrong in the write before."""
        self.settle()
        self._writing = self._pool.submit(self.ledger.save_checkpoint, self.group, snapshot(state))
        self.saved_at, self.saved_s = state.iteration, time.monotonic()

    def settle(self) -> None:
        """Waits for the write under way and raises what went wrong in it."""
        if self._writing is not None:
            self._writing.result()
