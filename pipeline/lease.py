"""One driver per run: a lease in the run's folder, renewed by a heartbeat.

    OUT/lease.json    host, process id, start time of the process, heartbeat, token

On the owner's own host a dead owner is recognised at once, by process id and start time. From another host,
or on an object store, an owner counts as dead when its heartbeat has not moved for ``STALE_S``; the new
driver says that it waits, and takes over.
"""

import contextlib
import fcntl
import json
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from pipeline import storage
from pipeline.errors import UserError
from pipeline.progress import say

FILE = "lease.json"
LOCK = ".lease.lock"
STALE_S = 30.0
BEAT_S = 5.0


class Lease:
    """The right to write to a run's folder, held as a context."""

    def __init__(self, out: str, *, stale_s: float = STALE_S, beat_s: float = BEAT_S) -> None:
        self.out, self.path, self.stale_s, self.beat_s = out, storage.join(out, FILE), stale_s, beat_s
        started = started_at(os.getpid())
        self.entry = {"host": host_name(), "pid": os.getpid(), "started": started, "token": uuid.uuid4().hex}
        self._stop = threading.Event()
        self._beats = threading.Thread(target=self._beat, name="lease", daemon=True)

    def __enter__(self) -> "Lease":
        """Takes the lease. Raises UserError where another driver holds it and lives."""
        while True:
            with self._exclusive():
                held = self._read()
                if held is None or self._is_dead_here(held):
                    self._write()
                    break
            self._wait_until_stale(held)
        if not storage.is_local(self.out) and self._token() != self.entry["token"]:
            raise self._refusal(self._read() or {})  # lost a race for the object
        self._beats.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._beats.join(timeout=30)
        with self._exclusive():
            if self._token() == self.entry["token"]:
                storage.remove(self.path)
            if storage.is_local(self.out):
                Path(self.out, LOCK).unlink(missing_ok=True)  # held, so nobody relies on it; see _exclusive
        if storage.is_local(self.out):
            with contextlib.suppress(OSError):
                Path(self.out).rmdir()  # only where the run wrote nothing

    def _wait_until_stale(self, held: dict[str, Any]) -> None:
        """Returns when the heartbeat has stood still long enough. Raises where the owner lives."""
        if held.get("host") == self.entry["host"] and storage.is_local(self.out):
            raise self._refusal(held)
        beat = held.get("heartbeat")
        age = time.time() - beat if isinstance(beat, int | float) else self.stale_s
        say(
            f"{self.out}: process {held.get('pid')} on {_short(held)} held this run {age:.0f} s ago; "
            "waiting to see whether it lives"
        )
        # The other host's clock may be off: what counts is that the heartbeat does not move while it is watched.
        watch_s = max(3 * self.beat_s, self.stale_s - max(0.0, age))
        seen, ends = held.get("beats"), time.monotonic() + watch_s
        while time.monotonic() < ends:
            time.sleep(min(1.0, self.stale_s / 10))
            now = self._read()
            if now is None:
                return
            if now.get("token") != held.get("token") or now.get("beats") != seen:
                raise self._refusal(now)
        with self._exclusive():
            if self._token() == held.get("token"):
                storage.remove(self.path)
                say(f"{self.out}: its heartbeat stopped; taking over")

    def _refusal(self, held: dict[str, Any]) -> UserError:
        return UserError(
            f"{self.out}: is in use by process {held.get('pid')} on {_short(held)}; wait for it, stop it, or choose another --out"
        )

    def _is_dead_here(self, held: dict[str, Any]) -> bool:
        """Whether the owner ran on this host, in this boot, and is no more."""
        if not storage.is_local(self.out) or held.get("host") != self.entry["host"]:
            return False
        pid = held.get("pid")
        return not isinstance(pid, int) or started_at(pid) != held.get("started")

    def _read(self) -> dict[str, Any] | None:
        try:
            held = json.loads(storage.read_bytes(self.path))
        except (FileNotFoundError, ValueError):
            return None
        return held if isinstance(held, dict) else None

    def _token(self) -> str | None:
        return (self._read() or {}).get("token")

    def _write(self, beats: int = 0) -> None:
        storage.write_json(self.path, {**self.entry, "heartbeat": time.time(), "beats": beats})

    def _beat(self) -> None:
        beats = 0
        while not self._stop.wait(self.beat_s):
            beats += 1
            # Whatever goes wrong with one beat, the next one is tried; a full disk is said by those who write results.
            with contextlib.suppress(Exception):
                if self._token() not in (self.entry["token"], None):
                    say(f"{self.out}: another driver has taken this run over; leaving it to that one")
                    os.kill(os.getpid(), signal.SIGTERM)
                    return
                self._write(beats)

    @contextlib.contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Between drivers on one file system, reading and writing the lease is one act."""
        if not storage.is_local(self.out):
            yield
            return
        path = Path(self.out, LOCK)
        while True:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o644)
            except OSError as error:
                raise storage.unwritable(str(path), error) from None
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                # The one before may have removed the file: then another file is the lock by now.
                if path.exists() and path.stat().st_ino == os.fstat(descriptor).st_ino:
                    yield
                    return
            finally:
                os.close(descriptor)


def _short(held: dict[str, Any]) -> str:
    return str(held.get("host")).split("/")[0]


def host_name() -> str:
    """This machine in this boot: process ids of another one, or of another container, mean nothing here."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:8])
        parts.append(os.readlink("/proc/self/ns/pid").strip("pid:[]"))
    return "/".join(parts)


def started_at(pid: int) -> str | None:
    """When a process of this machine started, in a form to compare; None where it is gone or a zombie."""
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        with contextlib.suppress(OSError, IndexError):
            # In ticks since the boot, which no correction of the clock changes; the name before may hold spaces.
            return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]
        return f"{process.create_time():.0f}"
    except (psutil.Error, OverflowError, ValueError):
        return None
