"""Starts and stops a Ray cluster of several nodes on this machine, on its own ports and in its own folder.

Every node is a ``ray start --block`` in its own session. ``ray stop`` would stop every Ray on the machine; the
functions here stop only what they started.
"""

import contextlib
import fcntl
import os
import re
import shutil
import stat
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from cluster.errors import ClusterError
from cluster.local import token
from cluster.local.node import STOP_S, NodeOptions, flags, start, wait_until
from cluster.local.ports import LOOPBACK, answers, free_ports
from cluster.local.state import LocalCluster, LocalNode, end, load, processes, save

START_ATTEMPTS = 3
"""Number of times a node is started: Ray gives up after 30 s, which can be too short on a busy machine."""
OURS = re.compile(r"(head|node\d+)(\.log)?|cluster\.json|\.cluster\.json\.tmp|token")
"""Names of the files and folders that are written to the cluster's folder."""
LONGEST = 36
"""Longest path of the folder in characters: Ray creates sockets deep inside it, and the system cuts their paths at 107."""


def up(nodes: int, options: NodeOptions) -> LocalCluster:
    """Starts the missing nodes one after another; returns the cluster once all of them are up.

    Args:
        nodes: their number, including the head.
        options: of every new node. A later call finds the cluster by their folder.

    Raises:
        ClusterError: a number out of range, a path too long, or a node that does not start.
    """
    _check(nodes, options)
    folder = options.folder
    with _locked(folder):
        stored = load(folder)
        if stored is None:
            _require_empty(folder)
        elif not stored.has_head():
            _end(stored, folder)  # the remaining nodes of a cluster whose head died
            stored = None
        folder.chmod(0o700)  # others could read Ray's logs in a folder that was there before
        cluster = (stored or _with_retries(partial(_head, options))).living()
        save(folder, cluster)
        try:
            while len(cluster.nodes) < nodes:
                cluster = _with_retries(partial(_with_new_node, cluster, options))
                save(folder, cluster)
        except BaseException:
            if stored is None:
                _end(cluster, folder)
            raise
        return cluster


def down(folder: Path) -> LocalCluster | None:
    """Stops the cluster of a folder and deletes what it wrote there; returns it, or None if there is none.

    Raises:
        ClusterError: a process does not stop.
    """
    if not folder.is_dir():
        return None
    with _locked(folder):
        cluster = load(folder)
        if cluster is not None:
            _end(cluster, folder)
            for log in filter(_is_ours, folder.glob("*.log")):
                log.unlink(missing_ok=True)
        return cluster


def remove(cluster: LocalCluster, node: LocalNode, folder: Path) -> LocalCluster:
    """Kills a node with everything on it, like a machine that loses its power; returns the cluster without it."""
    left = end(lambda: processes(cluster, node), 0.0)
    if left:
        raise ClusterError(f"{node.name}: {len(left)} of its processes do not stop")
    cluster = cluster.living()
    save(folder, cluster)
    return cluster


def _check(nodes: int, options: NodeOptions) -> None:
    for name, number, least in (("--nodes", nodes, 1), ("--cpus", options.cpus, 0), ("--gpus", options.gpus, 0)):
        if not least <= number <= 1000:
            raise ClusterError(f"{name} {number}: allowed: a number from {least} to 1000")
    if not Path("/proc/self/stat").exists():
        raise ClusterError("up-local: needs Linux; on other systems Ray does not run several nodes on one machine")
    length = len(str(options.folder))
    if length > LONGEST:
        raise ClusterError(
            f"--folder {options.folder}: is {length} characters long, allowed: {LONGEST}; Ray creates sockets inside it"
        )


def _head(options: NodeOptions) -> LocalCluster:
    """A new cluster of a head alone, whose job server answers."""
    gcs, dashboard, client = free_ports(3)
    ports: dict[str, int | str] = {
        "port": gcs,
        "dashboard-host": LOOPBACK,
        "dashboard-port": dashboard,
        "ray-client-server-port": client,
    }
    cluster = LocalCluster(mark=uuid.uuid4().hex, address=f"http://{LOOPBACK}:{dashboard}", gcs=f"{LOOPBACK}:{gcs}")
    save(options.folder, cluster)  # so that the next call finds the processes of a start that was killed
    try:
        if token.wanted(options.environment):
            token.make(options.folder, options.environment)
        node = start("head", ["--head", *flags(ports)], cluster, options)
        cluster = replace(cluster, nodes=(node,))
        wait_until(lambda: answers(cluster.address), node, "its job server does not answer", options.folder)
    except BaseException:
        _end(cluster, options.folder)
        raise
    return cluster


def _with_new_node(cluster: LocalCluster, options: NodeOptions) -> LocalCluster:
    taken = {node.name for node in cluster.nodes}
    names = (f"node{number}" for number in range(1, 2000))
    name = next(name for name in names if name not in taken and not (options.folder / name).exists())
    node = start(name, flags({"address": cluster.gcs}), cluster, options)
    return replace(cluster, nodes=(*cluster.nodes, node))


def _with_retries(attempt: Callable[[], LocalCluster]) -> LocalCluster:
    """The result of the first successful attempt. Raises ClusterError of the last one if all fail."""
    for _ in range(START_ATTEMPTS - 1):
        with contextlib.suppress(ClusterError):
            return attempt()
    return attempt()


def _end(cluster: LocalCluster, folder: Path) -> None:
    """Stops all processes of a cluster and deletes what it wrote, except its logs."""
    left = end(lambda: processes(cluster), STOP_S)
    if left:
        raise ClusterError(
            f"{folder}: {len(left)} processes do not stop; stop them by hand: {' '.join(map(str, sorted(left)))}"
        )
    for path in filter(_is_ours, list(folder.iterdir())):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif not path.name.endswith(".log"):
            path.unlink(missing_ok=True)


def _is_ours(path: Path) -> bool:
    """Whether a file or folder in the cluster's folder has a name that is written here."""
    return bool(OURS.fullmatch(path.name))


def _require_empty(folder: Path) -> None:
    others = [path.name for path in folder.iterdir() if not _is_ours(path) and path.name != ".lock"]
    if others:
        raise ClusterError(
            f"--folder {folder}: contains other files ({others[0]}); choose an empty folder or a new one"
        )


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Creates the folder for this user alone, and keeps other calls from working on it at the same time."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _require_own(folder)
        lock = open(folder / ".lock", "w")  # noqa: SIM115 (open until the end)
    except OSError as error:
        raise ClusterError(f"--folder {folder}: cannot be used ({error.strerror}); choose another") from None
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _require_own(folder: Path) -> None:
    """Raises ClusterError unless only this user can write to the folder."""
    status = folder.lstat()
    if stat.S_ISLNK(status.st_mode) or status.st_uid != os.getuid():
        raise ClusterError(f"--folder {folder}: is a link or belongs to another user; choose another")
    if status.st_mode & 0o022:
        raise ClusterError(
            f"--folder {folder}: other users can write to it; choose another, or first check its files and run chmod 700 on it"
        )
