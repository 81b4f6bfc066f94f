"""One driver per run: a lease in the run's folder, renewed by a heartbeat.

    OUT/lease.json    host, process id, start time of the process, heartbeat, token

On the owner's own host a dead owner is recognised at once, by process id and start time. From another host
an owner counts as dead when its heartbeat has not moved for ``STALE_S``; the new driver says that it waits, and
takes over. Drivers on one file system take turns by a lock file. On S3 every write of the lease has a condition:
there must be none yet, or it must be the one that was read, so of two drivers one wins. (A store that knows no
conditions lets both write; the later one wins, and the other one sees it before it begins or at its next beat.)
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
from pipeline.errors import FailedError, UserError
from pipeline.observability.progress import say

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
        self.lost = False
        """Whether another driver has taken the run over."""
        self._beats = threading.Thread(target=self._beat, name="lease", daemon=True)

    def __enter__(self) -> "Lease":
        """Takes the lease. Raises UserError where another driver holds it and lives."""
        storage.require_reachable(self.out)
        dead = None
        while True:
            with self._exclusive():
                version = self._version()
                held = self._read()
                if held is None or self._is_dead_here(held) or held.get("token") == dead:
                    if self._take(version):
                        break
                    continue  # another driver was faster; it is looked at like any other
            self._wait_until_stale(held)
            dead = held.get("token")
        if not storage.is_local(self.out) and self._token() != self.entry["token"]:
            raise self._refusal(self._read() or {})  # lost a race for the object
        self._beats.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._beats.join(timeout=30)
        with self._exclusive():
            with contextlib.suppress(UserError, FailedError):  # a bucket that is gone by now; the lease grows stale
                if self._token() == self.entry["token"]:
                    storage.remove(self.path)
            if storage.is_local(self.out):
                Path(self.out, LOCK).unlink(missing_ok=True)  # held, so nobody relies on it; see _exclusive
        if storage.is_local(self.out):
            with contextlib.suppress(OSError):
                Path(self.out).rmdir()  # only where the run wrote nothing

    def _wait_until_stale(self, held: dict[str, Any]) -> None:
        """Returns when the heartbeat has stood still long enough. Raises where the owner lives."""
        if held.get("host") == self.entry["host"]:
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
        say(f"{self.out}: its heartbeat stopped; taking over")

    def _refusal(self, held: dict[str, Any]) -> UserError:
        return UserError(
            f"{self.out}: is in use by process {held.get('pid')} on {_short(held)}; wait for it, stop it, or choose another --out"
        )

    def _is_dead_here(self, held: dict[str, Any]) -> bool:
        """Whether the owner ran on this host, in this boot, and is no more."""
        if held.get("host") != self.entry["host"]:
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

    def _content(self, beats: int) -> dict[str, Any]:
        return {**self.entry, "heartbeat": time.time(), "beats": beats}

    def _version(self) -> str | None:
        return storage.version_of(self.path) if storage.is_s3(self.path) else None

    def _take(self, version: str | None) -> bool:
        """Writes the lease in place of that version, or of none; false where another driver was faster."""
        if not storage.is_s3(self.path):
            storage.write_json(self.path, self._content(0))
            return True
        content = json.dumps(self._content(0)).encode()
        taken = storage.create(self.path, content) if version is None else self._replace(content, version)
        # An answer may be lost and the request repeated: then the lease that stands in the way is this one.
        return taken or self._token() == self.entry["token"]

    def _replace(self, content: bytes, version: str) -> bool:
        return storage.replace_version(self.path, content, version)

    def _beat(self) -> None:
        beats = 0
        while not self._stop.wait(self.beat_s):
            beats += 1
            # Whatever goes wrong with one beat, the next one is tried; a full disk is said by those who write results.
            with contextlib.suppress(Exception):
                version = self._version()
                if self._token() not in (self.entry["token"], None):
                    self.lost = True
                    say(f"{self.out}: another driver has taken this run over; leaving it to that one")
                    os.kill(os.getpid(), signal.SIGTERM)
                    return
                if version is None and storage.is_s3(self.path):
                    storage.create(self.path, json.dumps(self._content(beats)).encode())
                elif version is None:
                    storage.write_json(self.path, self._content(beats))
                else:
                    self._replace(json.dumps(self._content(beats)).encode(), version)

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
