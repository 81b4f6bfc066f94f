"""Logs of lines. A local file is appended to; on an object store the whole log is written again every so often.

An object cannot be appended to, so lines that a killed driver had not written yet are lost: at most ``EVERY_S`` of them.
"""

import contextlib
import time
from dataclasses import dataclass, field

from pipeline import storage
from pipeline.errors import FailedError, UserError

EVERY_S = 10.0
"""Seconds between two writes of a log that lies in a bucket."""


@dataclass
class _Log:
    lines: list[str] = field(default_factory=list)
    written_at: float = 0.0
    changed: bool = False


_logs: dict[str, _Log] = {}


def append(path: str, line: str) -> None:
    """Appends a line. Raises UserError where a local file cannot be written; a bucket is tried again the next time."""
    if storage.is_local(path):
        storage.append_line(path, line)
        return
    if path not in _logs:
        _logs[path] = _Log(lines=_held(path), written_at=time.monotonic())
    log = _logs[path]
    log.lines.append(line)
    log.changed = True
    if time.monotonic() - log.written_at >= EVERY_S:
        log.written_at = time.monotonic()
        with contextlib.suppress(UserError, FailedError):  # a log must not end the work that it tells of
            _write(path, log)


def forget() -> None:
    """Drops what is not written yet: another driver goes on with the logs."""
    _logs.clear()


def flush() -> None:
    """Writes what is not written yet and forgets it. Raises UserError or FailedError where the bucket is gone."""
    while _logs:
        path, log = _logs.popitem()
        if log.changed:
            _write(path, log)


def _write(path: str, log: _Log) -> None:
    storage.write_bytes(path, "".join(line + "\n" for line in log.lines).encode())
    log.written_at, log.changed = time.monotonic(), False


def _held(path: str) -> list[str]:
    with contextlib.suppress(FileNotFoundError):
        return storage.read_bytes(path).decode().splitlines()
    return []
