"""Logs of lines. A line is appended to a local file; in a bucket the complete log is written again from time to time.

An object cannot be appended to. A killed driver therefore loses the lines of its last ``EVERY_S`` seconds.
"""

import contextlib
import time
from dataclasses import dataclass, field

from pipeline import storage
from pipeline.errors import FailedError, UserError

EVERY_S = 10.0
"""Seconds between two writes of a log in a bucket."""


@dataclass
class _Log:
    lines: list[str] = field(default_factory=list)
    written_at: float = 0.0
    changed: bool = False


_logs: dict[str, _Log] = {}
"""Logs in buckets that this process has appended to, by URL."""


def append(path: str, line: str) -> None:
    """Appends a line. A failed write to a bucket is repeated with the next line.

    Raises:
        UserError: a local file cannot be written.
    """
    if storage.is_local(path):
        storage.append_line(path, line)
        return
    if path not in _logs:
        _logs[path] = _Log(lines=_stored_lines(path), written_at=time.monotonic())
    log = _logs[path]
    log.lines.append(line)
    log.changed = True
    if time.monotonic() - log.written_at >= EVERY_S:
        log.written_at = time.monotonic()
        with contextlib.suppress(UserError, FailedError):  # a log must not stop the work that it describes
            _write(path, log)


def forget() -> None:
    """Drops unwritten lines, because another driver has taken the logs over."""
    _logs.clear()


def flush() -> None:
    """Writes all unwritten lines and forgets the logs. Raises UserError or FailedError if a bucket cannot be written."""
    while _logs:
        path, log = _logs.popitem()
        if log.changed:
            _write(path, log)


def _write(path: str, log: _Log) -> None:
    storage.write_bytes(path, "".join(line + "\n" for line in log.lines).encode())
    log.written_at, log.changed = time.monotonic(), False


def _stored_lines(path: str) -> list[str]:
    with contextlib.suppress(FileNotFoundError):
        return storage.read_bytes(path).decode(errors="replace").splitlines()
    return []
