"""One driver per run: a lease in the run's folder, renewed by a heartbeat.

    OUT/lease.json    host, process id, start time of the process, heartbeat, token

On its own host a dead owner is recognised at once, by process id and start time. On another host an owner counts as
dead if its heartbeat has not moved for ``STALE_S``; the new driver prints that it waits, and takes the run over. On one
file system drivers take turns by a lock file. On S3 every write of the lease has a condition: either there is no lease
yet, or it is the one that was read. So of two drivers one wins. (A store without conditional writes accepts both. Then
the later one wins, and the other notices before it begins or at its next heartbeat.)
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
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import psutil

from pipeline import storage
from pipeline.errors import FailedError, UserError
from pipeline.formats.run_folder import RunFolder
from pipeline.observability.progress import say
from pipeline.storage.local.regular_files import SETTINGS_BYTES
from pipeline.storage.safe_json import parse_json

FILE = "lease.json"
LOCK = ".lease.lock"
STALE_S = 30.0
"""Seconds without a heartbeat after which an owner on another host counts as dead."""
BEAT_S = 5.0
"""Seconds between two heartbeats."""
WRITTEN = (
    "class-shards",
    "checkpoints",
    "snapshots",
    "condensed",
    "evaluation",
    "networks",
    "baselines",
    "experts",
    "trials",
    "whole",
)
"""Folders below that of a run in which its processes write. What else a user keeps there is left alone."""


@dataclass(frozen=True, kw_only=True)
class LeaseEntry:
    """The content of lease.json. Another program may have damaged it, so a field of a read entry may be anything."""

    host: object = None
    """Machine and boot of the owner, as ``host_name`` gives them."""
    pid: object = None
    started: object = None
    """When the owner's process started, as ``started_at`` gives it."""
    token: object = None
    """Random name of this lease."""
    heartbeat: object = None
    """Time of the last heartbeat, in seconds since 1970."""
    beats: object = None
    """Number of heartbeats so far."""

    @classmethod
    def of(cls, values: Mapping[str, object]) -> "LeaseEntry":
        """The entry in a JSON object. Missing fields are None."""
        names = ("host", "pid", "started", "token", "heartbeat", "beats")
        return cls(**{name: values.get(name) for name in names})

    @property
    def owner(self) -> str:
        """Process and machine of the owner, for messages."""
        return f"process {self.pid} on {str(self.host).split('/')[0]}"


class Lease:
    """The right to write to a run's folder, as a context."""

    def __init__(self, folder: RunFolder, *, stale_s: float = STALE_S, beat_s: float = BEAT_S) -> None:
        """Prepares a lease; entering the context takes it.

        Args:
            folder: of the run.
            stale_s: seconds without a heartbeat after which an owner on another host counts as dead.
            beat_s: seconds between two heartbeats.
        """
        self.folder, self.path, self.stale_s, self.beat_s = folder, folder.file(FILE), stale_s, beat_s
        self.entry = LeaseEntry(
            host=host_name(), pid=os.getpid(), started=started_at(os.getpid()), token=uuid.uuid4().hex
        )
        self._stop = threading.Event()
        self.lost = False
        """Whether another driver has taken the run over."""
        self._beats = threading.Thread(target=self._beat, name="lease", daemon=True)

    def __enter__(self) -> "Lease":
        """Takes the lease. Raises UserError if another driver has it and is alive."""
        storage.require_reachable(self.folder.path)
        dead_token = None
        while True:
            with self._exclusive():
                version = self._version()
                other = self._read()
                if other is None or self._is_dead_here(other) or other.token == dead_token:
                    if self._take(version):
                        break
                    continue  # another driver was faster; look at its lease like at any other
            self._wait_until_stale(other)
            dead_token = other.token
        if not storage.is_local(self.folder.path) and self._token() != self.entry.token:
            raise self._refusal(self._read() or LeaseEntry())  # lost a race for the object
        self._beats.start()
        return self

    def is_left_behind(self) -> bool:
        """Whether the folder has the lease of a driver that died on this machine."""
        other = self._read()
        return other is not None and self._is_dead_here(other)

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._beats.join(timeout=30)
        try:
            if not self.lost:
                _sweep(self.folder.path)
        finally:
            self._release()

    def _release(self) -> None:
        out = self.folder.path
        with self._exclusive():
            with contextlib.suppress(UserError, FailedError):  # the bucket is gone: the lease becomes stale
                if self._token() == self.entry.token:
                    storage.remove(self.path)
            if storage.is_local(out):
                Path(out, LOCK).unlink(missing_ok=True)  # we have it locked, so nobody relies on it; see _exclusive
        if storage.is_local(out):
            with contextlib.suppress(OSError):
                Path(out).rmdir()  # succeeds only if the run wrote nothing

    def _wait_until_stale(self, other: LeaseEntry) -> None:
        """Returns once the heartbeat has stood still long enough. Raises UserError if the owner is alive."""
        if other.host == self.entry.host:
            raise self._refusal(other)
        beat = other.heartbeat
        age = time.time() - beat if isinstance(beat, int | float) else self.stale_s
        say(f"{self.folder}: {other.owner} used this run {age:.0f} s ago; waiting to see whether it is alive")
        # The clock of the other host may be wrong. What counts is that the heartbeat does not move during the wait.
        watch_s = max(3 * self.beat_s, self.stale_s - max(0.0, age))
        ends = time.monotonic() + watch_s
        while time.monotonic() < ends:
            time.sleep(min(1.0, self.stale_s / 10))
            now = self._read()
            if now is None:
                return
            if now.token != other.token or now.beats != other.beats:
                raise self._refusal(now)
        say(f"{self.folder}: its heartbeat stopped; taking over")

    def _refusal(self, other: LeaseEntry) -> UserError:
        return UserError(f"{self.folder}: is in use by {other.owner}; wait for it, stop it, or choose another --out")

    def _is_dead_here(self, other: LeaseEntry) -> bool:
        """Whether the owner ran on this host since it booted, and has ended."""
        if other.host != self.entry.host:
            return False
        return not isinstance(other.pid, int) or started_at(other.pid) != other.started

    def _read(self) -> LeaseEntry | None:
        """The lease in the folder, or None if there is none or it is damaged."""
        try:
            values = parse_json(storage.read_bytes(self.path, SETTINGS_BYTES))
        except (FileNotFoundError, ValueError):
            return None
        return LeaseEntry.of(values) if isinstance(values, dict) else None

    def _token(self) -> object:
        return (self._read() or LeaseEntry()).token

    def _content(self, beats: int) -> dict[str, object]:
        return asdict(replace(self.entry, heartbeat=time.time(), beats=beats))

    def _version(self) -> str | None:
        return storage.version_of(self.path) if storage.is_s3(self.path) else None

    def _take(self, version: str | None) -> bool:
        """Writes the lease if the folder still has that version of it, or none. Returns False if another was faster."""
        if not storage.is_s3(self.path):
            storage.write_json(self.path, self._content(0))
            return True
        content = json.dumps(self._content(0)).encode()
        taken = storage.create(self.path, content) if version is None else self._replace(content, version)
        # A lost answer makes the request be repeated. Then the lease in the way is this one.
        return taken or self._token() == self.entry.token

    def _replace(self, content: bytes, version: str) -> bool:
        return storage.replace_version(self.path, content, version)

    def _beat(self) -> None:
        beats = 0
        while not self._stop.wait(self.beat_s):
            beats += 1
            # After any error the next beat is tried. Those who write results report a full disk.
            with contextlib.suppress(Exception):
                version = self._version()
                if self._token() not in (self.entry.token, None):
                    self.lost = True
                    say(f"{self.folder}: another driver has taken this run over; leaving it to that one")
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
        """Makes reading and writing the lease one step among drivers on one file system."""
        if not storage.is_local(self.folder.path):
            yield
            return
        path = Path(self.folder.path, LOCK)
        while True:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o644)
            except OSError as error:
                raise storage.unwritable(str(path), error) from None
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                # The owner before may have removed the file: then another file is the lock by now.
                if path.exists() and path.stat().st_ino == os.fstat(descriptor).st_ino:
                    yield
                    return
            finally:
                os.close(descriptor)


def _sweep(out: str) -> None:
    """Removes the half-written files of processes that were killed, of this driver's and of those before."""
    storage.sweep(out)
    for name in WRITTEN if storage.is_local(out) else ():
        if Path(out, name).is_symlink():  # it may lead out of a folder that is somebody else's
            continue
        # Other runs, of other machines too, may prepare class shards in the same place. The rest is this run's alone.
        age_s = storage.LEFT_BEHIND_S if name == "class-shards" else 60.0
        for folder, _, _ in os.walk(Path(out, name)):
            storage.sweep(folder, age_s)


def host_name() -> str:
    """This machine since its boot. Process ids of another machine, boot or container mean nothing here."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:8])
        parts.append(os.readlink("/proc/self/ns/pid").strip("pid:[]"))
    return "/".join(parts)


def started_at(pid: int) -> str | None:
    """When a process of this machine started, in a form to compare; None if it is gone or a zombie."""
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        with contextlib.suppress(OSError, IndexError):
            # In ticks since the boot, which no correction of the clock changes. The name before it may have spaces.
            return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]
        return f"{process.create_time():.0f}"
    except (psutil.Error, OverflowError, ValueError):
        return None
