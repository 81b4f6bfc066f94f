"""One tracker as the driver sees it: a thread that feeds the tracker's process."""

import contextlib
import json
import queue
import subprocess
import sys
import threading
import time
from typing import Annotated, NotRequired

from pydantic import StringConstraints

from pipeline.errors import FailedError, UserError, one_line
from pipeline.observability.progress import say
from pipeline.observability.trackers.batch import Batch, Opening, line_of
from pipeline.storage.documents import Document, read_document, write_document

CLOSE_S = 20.0
"""Seconds that the end of a command waits for its trackers."""
RETRY_S = 120.0
"""Seconds until a tracker that has failed is tried again."""
GATHER_S = 1.0
"""Seconds between two batches."""

RunId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,128}$")]


class TrackersDocument(Document):
    """OUT/trackers.json: what the trackers call the run."""

    mlflow: NotRequired[RunId]
    wandb: NotRequired[RunId]


_ids = threading.Lock()
"""Held while trackers.json is read and written: every tracker has a thread."""


class TrackerFailedError(Exception):
    """A tracker's process has failed."""


class Tracker:
    """Hands batches to a tracker. No call waits for it but ``wait``, and none raises."""

    def __init__(self, kind: str, name: str, document: str) -> None:
        """Starts the thread, which starts the process.

        Args:
            kind: of the tracker, as ``report.loggers`` names it.
            name: of the run.
            document: path of trackers.json.
        """
        self.kind, self._name, self._document = kind, name, document
        self._batches: queue.SimpleQueue[Batch] = queue.SimpleQueue()
        self._process: subprocess.Popen[str] | None = None
        self._retry_at, self._has_failed, self._given_up = 0.0, False, False
        self._thread = threading.Thread(target=self._work, name=f"tracker-{kind}", daemon=True)
        self._thread.start()

    def put(self, batch: Batch) -> None:
        """Sends a batch when the tracker is ready for it. One with an outcome is the last."""
        self._batches.put(batch)

    def wait(self, seconds: float) -> None:
        """Waits until all has been sent, and gives up after some seconds."""
        self._thread.join(seconds)
        if self._thread.is_alive():
            self._given_up = True
            self._fail("does not answer")
            self._thread.join(1.0)

    def _work(self) -> None:
        pending = Batch()
        while not pending.outcome:
            pending = pending.joined(self._taken())
            if time.monotonic() < self._retry_at:
                continue
            try:
                self._send(pending)
            except (TrackerFailedError, OSError, ValueError, UserError, FailedError) as error:
                self._fail(one_line(error).rstrip("."))
            else:
                pending = Batch(outcome=pending.outcome)
        self._stop()

    def _taken(self) -> Batch:
        """The batches that arrive within a moment, as one; at once if one is the last."""
        taken, ends = Batch(), time.monotonic() + GATHER_S
        with contextlib.suppress(queue.Empty):
            while not taken.outcome:
                taken = taken.joined(self._batches.get(timeout=max(0.0, ends - time.monotonic())))
        return taken

    def _send(self, batch: Batch) -> None:
        if self._process is None:
            self._open()
        if batch != Batch():
            self._ask(batch)

    def _open(self) -> None:
        """Starts the process, and stores what the tracker calls the run."""
        with _ids:
            before = _read_ids(self._document).get(self.kind)
        command = [sys.executable, "-m", "pipeline.observability.trackers.process", self.kind]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,  # Ctrl-C is for the driver, which then says how the run ended
        )
        now = self._ask(Opening(name=self._name, id=before))
        if now != before:
            with _ids:
                write_document(self._document, {**_read_ids(self._document), self.kind: now})

    def _ask(self, message: Opening | Batch) -> str:
        """Sends a line and returns the id of the answer."""
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise TrackerFailedError("its process is gone")
        with contextlib.suppress(BrokenPipeError):  # its last answer says why
            process.stdin.write(line_of(message))
            process.stdin.flush()
        line = process.stdout.readline()
        answer = json.loads(line) if line else {"failed": "its process has ended"}
        if "failed" in answer:
            raise TrackerFailedError(answer["failed"])
        return answer["id"]

    def _fail(self, why: str) -> None:
        """Prints the first failure, and ends the process. Another one is started later."""
        if not self._has_failed:
            self._has_failed = True
            say(f"{self.kind}: {why}; the run goes on, and what is missing there is in its folder")
        self._retry_at = time.monotonic() + RETRY_S
        self._stop(kill=True)

    def _stop(self, *, kill: bool = False) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if kill:
            process.kill()
        if not self._given_up:  # else the thread holds the pipes
            with contextlib.suppress(OSError, ValueError, subprocess.TimeoutExpired):
                process.communicate(timeout=CLOSE_S)
        process.kill()
        process.wait()


def _read_ids(document: str) -> TrackersDocument:
    try:
        return read_document(TrackersDocument, document)
    except FileNotFoundError:
        return {}
