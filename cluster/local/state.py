"""The state of a cluster on this machine, stored in its folder so that later calls find it, and its processes."""

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from cluster.errors import ClusterError

FILE = "cluster.json"
MARK = "M3D_LOCAL_CLUSTER"
"""Variable in the environment of every process of a cluster: the cluster's mark, and the node."""


@dataclass(frozen=True, kw_only=True)
class LocalNode:
    """One raylet and its processes, in their own session."""

    name: str
    pid: int
    started: str
    """Start of the process, in ticks since the boot: process numbers are reused."""
    metrics_port: int
    cpus: int
    gpus: int
    first_gpu: int
    """First of the machine's devices that the node has."""


@dataclass(frozen=True, kw_only=True)
class LocalCluster:
    """A cluster of several nodes on this machine; the first node is the head."""

    mark: str
    address: str
    """Address of the job server and the dashboard."""
    gcs: str
    """HOST:PORT to which nodes and drivers connect."""
    nodes: tuple[LocalNode, ...] = ()

    def living(self) -> "LocalCluster":
        """The cluster without the nodes whose process has ended."""
        return replace(self, nodes=tuple(node for node in self.nodes if started_at(node.pid) == node.started))

    def has_head(self) -> bool:
        """Whether the head, which all other nodes need, is running."""
        return any(node.name == "head" for node in self.living().nodes)


def load(folder: Path) -> LocalCluster | None:
    """The cluster of a folder, or None if there is none. Raises ClusterError if its file is damaged."""
    path = folder / FILE
    try:
        document = json.loads(path.read_text())
        return LocalCluster(**{**document, "nodes": tuple(LocalNode(**node) for node in document["nodes"])})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError):
        raise ClusterError(
            f"{path}: is damaged or was not written by this program; choose another --folder, or delete it"
        ) from None


def save(folder: Path, cluster: LocalCluster) -> None:
    """Writes the file, completely or not at all."""
    temporary = folder / f".{FILE}.tmp"
    temporary.write_text(json.dumps(asdict(cluster), indent=2) + "\n")
    os.replace(temporary, folder / FILE)


def started_at(pid: int) -> str | None:
    """When a process started, in ticks since the boot, or None if it has ended."""
    stat = _stat(pid)
    return None if stat is None or stat[0] == "Z" else stat[19]


def processes(cluster: LocalCluster, only: LocalNode | None = None) -> set[int]:
    """The processes of a cluster, or of one node: those with its mark and those in a node's session.

    Ray's workers overwrite their environment with their titles, so the mark alone would miss them. A session's number
    alone could have been reused for other processes.
    """
    nodes = [only] if only else list(cluster.nodes)
    sessions = {node.pid for node in nodes if started_at(node.pid) in (node.started, None)}
    mark = f"{MARK}={cluster.mark}{':' + only.name if only else ''}".encode()
    pids = set()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or (pid := int(entry.name)) == os.getpid():
            continue
        stat = _stat(pid)
        if stat is None or stat[0] == "Z":
            continue
        if int(stat[3]) in sessions or _has_mark(entry, mark):
            pids.add(pid)
    return pids


def end(find: Callable[[], set[int]], patience_s: float) -> set[int]:
    """Ends processes: SIGTERM, a wait, SIGKILL. Returns those that are still running.

    Args:
        find: returns the running processes. It is called repeatedly, since a process may start others before it ends.
        patience_s: seconds between SIGTERM and SIGKILL.
    """
    for number, seconds in ((signal.SIGTERM, patience_s), (signal.SIGKILL, 10.0)):
        deadline = time.monotonic() + seconds
        signalled: set[int] = set()
        while (left := find()) and time.monotonic() < deadline:
            for pid in left - signalled:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            signalled |= left
            time.sleep(0.1)
        if not left:
            return set()
    return find()


def _has_mark(entry: Path, mark: bytes) -> bool:
    try:
        environment = (entry / "environ").read_bytes()
    except OSError:  # another user's, or ended
        return False
    return any(variable == mark or variable.startswith(mark + b":") for variable in environment.split(b"\0"))


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat after the name: state, parent, group, session, ..."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return None
