"""Names of temporary files, which say whose they are, so that those of killed processes can be removed at once."""

import hashlib
import os
import time
import uuid
from functools import cache
from pathlib import Path


def temporary_beside(path: Path) -> Path:
    """Returns the path of a hidden temporary file beside a file, for this process."""
    return path.with_name(f".{path.name}.{_owner(os.getpid())}.{uuid.uuid4().hex[:12]}.tmp")


def is_left_behind(path: Path, age_s: float) -> bool:
    """Whether a temporary file belongs to nobody: its process has ended for sure, or it was not written to for ``age_s`` seconds.

    A file of a process that runs belongs to it, however old the file is. Raises FileNotFoundError.
    """
    alive = _is_alive(path.name.split(".")[-3] if path.name.count(".") >= 3 else "")
    if alive is None:
        return time.time() - path.stat().st_mtime > age_s
    return not alive


def _owner(pid: int) -> str:
    """Machine, process and start of the process; without the start if the system does not tell."""
    return f"{_machine()}-{pid}-{_start_of(pid)}"


def _is_alive(owner: str) -> bool | None:
    """Whether the owner in a name runs; None if that cannot be known here."""
    machine, _, process = owner.partition("-")
    pid, _, start = process.partition("-")
    if not pid.isdecimal() or not machine or machine != _machine():
        return None
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # it runs as another user
        return True
    return start == _start_of(int(pid)) or None


@cache
def _machine() -> str:
    """What process numbers are unique in: this start of the machine, and the container. Empty if the system does not tell."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()
        return hashlib.sha256(f"{boot}{os.readlink('/proc/self/ns/pid')}".encode()).hexdigest()[:12]
    except OSError:
        return ""


def _start_of(pid: int) -> str:
    """When a process started, in ticks since the machine did; empty if the system does not tell."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
