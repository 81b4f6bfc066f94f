"""What is known of a cluster on this machine, and its processes: kept in its folder, so that any later call finds them."""

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
"""Variable in the environment of everything that is started, with the cluster's own mark."""


@dataclass(frozen=True, kw_only=True)
class LocalNode:
    """One raylet with what belongs to it, all in a session of their own."""

    name: str
    pid: int
    started: str
    """In ticks since the boot: a process number may come again."""
    metrics_port: int
    cpus: int
    gpus: int
    first_gpu: int
    """Of the machine's devices; the node has those from here on."""


@dataclass(frozen=True, kw_only=True)
class LocalCluster:
    """A cluster of several nodes on this machine; the first node is the head."""

    mark: str
    address: str
    """Of the job server and the dashboard."""
    gcs: str
    """HOST:PORT that nodes and drivers join."""
    nodes: tuple[LocalNode, ...] = ()

    def living(self) -> "LocalCluster":
        """The same without the nodes that are gone."""
        return replace(self, nodes=tuple(node for node in self.nodes if started_at(node.pid) == node.started))

    def has_head(self) -> bool:
        """Whether the node that all others need is there."""
        return any(node.name == "head" for node in self.living().nodes)


def load(folder: Path) -> LocalCluster | None:
    """The cluster of a folder, or None. Raises ClusterError where the file is not to be understood."""
    path = folder / FILE
    try:
        held = json.loads(path.read_text())
        return LocalCluster(**{**held, "nodes": tuple(LocalNode(**node) for node in held["nodes"])})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError):
        raise ClusterError(
            f"{path}: is damaged or not of this program; choose another --folder, or delete it"
        ) from None


def save(folder: Path, cluster: LocalCluster) -> None:
    """Writes the file, whole or not at all."""
    beside = folder / f".{FILE}.tmp"
    beside.write_text(json.dumps(asdict(cluster), indent=2) + "\n")
    os.replace(beside, folder / FILE)


def started_at(pid: int) -> str | None:
    """When a process started, in ticks since the boot, or None where it is gone."""
    found = _stat(pid)
    return None if found is None or found[0] == "Z" else found[19]


def processes(cluster: LocalCluster, only: LocalNode | None = None) -> set[int]:
    """Everything that runs on behalf of a cluster, or of one node: what carries its mark or is in a node's session.

    Ray's workers write their titles over their environment, so that the mark alone would miss them; a session's number
    alone could be that of other people by now.
    """
    nodes = [only] if only else list(cluster.nodes)
    sessions = {node.pid for node in nodes if started_at(node.pid) in (node.started, None)}
    wanted = f"{MARK}={cluster.mark}{':' + only.name if only else ''}".encode()
    found = set()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or (pid := int(entry.name)) == os.getpid():
            continue
        stat = _stat(pid)
        if stat is None or stat[0] == "Z":
            continue
        if int(stat[3]) in sessions or _carries(entry, wanted):
            found.add(pid)
    return found


def end(find: Callable[[], set[int]], patience_s: float) -> set[int]:
    """Ends processes: asks, waits, kills. Returns those that are left.

    Args:
        find: gives the processes that run, each time anew: what is ended may start others before it ends.
        patience_s: between the asking and the killing.
    """
    for number, seconds in ((signal.SIGTERM, patience_s), (signal.SIGKILL, 10.0)):
        ends = time.monotonic() + seconds
        asked: set[int] = set()
        while (left := find()) and time.monotonic() < ends:
            for pid in left - asked:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            asked |= left
            time.sleep(0.1)
        if not left:
            return set()
    return find()


def _carries(entry: Path, wanted: bytes) -> bool:
    try:
        held = (entry / "environ").read_bytes()
    except OSError:  # another user's, or gone
        return False
    return any(one == wanted or one.startswith(wanted + b":") for one in held.split(b"\0"))


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat after the name: state, parent, group, session, ..."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return None
