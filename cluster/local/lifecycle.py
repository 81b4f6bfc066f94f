"""A Ray cluster of several nodes on this machine, on ports and in a folder of its own.

Every node is a ``ray start --block`` in a session of its own. ``ray stop`` would end every Ray of the machine;
here only what was started here is ended.
"""

import contextlib
import fcntl
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from cluster.errors import ClusterError
from cluster.local.node import STOP_S, flags, started, until
from cluster.local.ports import answers, free_ports
from cluster.local.state import LocalCluster, LocalNode, end, load, processes, save

START_ATTEMPTS = 3
"""Of a node: Ray gives one up that is not there within 30 s, which a busy machine may need."""
OURS = re.compile(r"(head|node\d+)(\.log)?|cluster\.json|\.cluster\.json\.tmp")
"""Names of what is written to the folder."""
LONGEST = 36
"""Characters of the folder: Ray puts sockets far below it, whose paths the system cuts at 107."""


def up(nodes: int, cpus: int, gpus: int, folder: Path, environment: Mapping[str, str]) -> LocalCluster:
    """Starts what is missing of ``nodes`` nodes, one after another, and returns once all of them are up.

    Args:
        nodes: the head among them.
        cpus: of each node.
        gpus: of each node, logical ones: Ray counts them, whether there are any or not.
        folder: of the cluster; a later call finds it there.
        environment: of the nodes.

    Raises:
        ClusterError: a number out of range, a path too long, or a node that does not start.
    """
    for name, given, least in (("--nodes", nodes, 1), ("--cpus", cpus, 0), ("--gpus", gpus, 0)):
        if not least <= given <= 1000:
            raise ClusterError(f"{name} {given}: allowed: a number from {least} to 1000")
    if not Path("/proc/self/stat").exists():
        raise ClusterError("up-local: needs Linux; Ray joins several nodes on one machine nowhere else")
    if len(str(folder)) > LONGEST:
        raise ClusterError(
            f"--folder {folder}: is {len(str(folder))} characters long, allowed: {LONGEST}; Ray makes sockets below it"
        )
    with _alone(folder):
        held = load(folder)
        if held is None:
            _require_empty(folder)
        if held is not None and not held.has_head():
            _end(held, folder)  # what is left of one whose head died
            held = None
        cluster = (held or _tried(_head, cpus, gpus, folder, environment)).living()
        save(folder, cluster)
        try:
            while len(cluster.nodes) < nodes:
                cluster = _tried(_joined, cluster, cpus, gpus, folder, environment)
                save(folder, cluster)
        except BaseException:
            if held is None:
                _end(cluster, folder)
            raise
        return cluster


def down(folder: Path) -> LocalCluster | None:
    """Ends the cluster of a folder and removes what it wrote there; None where there is none.

    Raises:
        ClusterError: a process that does not end.
    """
    if not folder.is_dir():
        return None
    with _alone(folder):
        cluster = load(folder)
        if cluster is not None:
            _end(cluster, folder)
            for log in filter(_is_ours, folder.glob("*.log")):
                log.unlink(missing_ok=True)
        return cluster


def remove(cluster: LocalCluster, node: LocalNode, folder: Path) -> LocalCluster:
    """Kills one node with everything on it, as a machine that loses its power; returns the cluster without it."""
    left = end(lambda: processes(cluster, node), 0.0)
    if left:
        raise ClusterError(f"{node.name}: {len(left)} of its processes do not end")
    cluster = cluster.living()
    save(folder, cluster)
    return cluster


def _head(cpus: int, gpus: int, folder: Path, environment: Mapping[str, str]) -> LocalCluster:
    gcs, dashboard, client = free_ports(3)
    mark = uuid.uuid4().hex
    options: dict[str, Any] = {
        "port": gcs,
        "dashboard-host": "127.0.0.1",
        "dashboard-port": dashboard,
        "ray-client-server-port": client,
    }
    cluster = LocalCluster(mark=mark, address=f"http://127.0.0.1:{dashboard}", gcs=f"127.0.0.1:{gcs}")
    save(folder, cluster)  # so that whoever comes next finds what is left of a start that was killed
    try:
        node = started("head", ["--head", *flags(options)], cluster, cpus, gpus, folder, environment)
        cluster = replace(cluster, nodes=(node,))
        until(lambda: answers(cluster.address), node, "its job server does not answer", folder)
    except BaseException:
        _end(cluster, folder)
        raise
    return cluster


def _joined(cluster: LocalCluster, cpus: int, gpus: int, folder: Path, environment: Mapping[str, str]) -> LocalCluster:
    taken = {node.name for node in cluster.nodes}
    name = next(f"node{n}" for n in range(1, 2000) if f"node{n}" not in taken and not (folder / f"node{n}").exists())
    node = started(name, flags({"address": cluster.gcs}), cluster, cpus, gpus, folder, environment)
    return replace(cluster, nodes=(*cluster.nodes, node))


def _tried(start: Callable[..., LocalCluster], *arguments: Any) -> LocalCluster:
    """What ``start`` gives; where it fails it is tried again, and its last error is raised."""
    for _ in range(START_ATTEMPTS - 1):
        with contextlib.suppress(ClusterError):
            return start(*arguments)
    return start(*arguments)


def _end(cluster: LocalCluster, folder: Path) -> None:
    left = end(lambda: processes(cluster), STOP_S)
    if left:
        raise ClusterError(
            f"{folder}: {len(left)} processes do not end; end them by hand: {' '.join(map(str, sorted(left)))}"
        )
    for path in filter(_is_ours, list(folder.iterdir())):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif not path.name.endswith(".log"):
            path.unlink(missing_ok=True)


def _is_ours(path: Path) -> bool:
    """Whether a file or folder of the cluster's folder was made here."""
    return bool(OURS.fullmatch(path.name))


def _require_empty(folder: Path) -> None:
    others = [path.name for path in folder.iterdir() if not _is_ours(path) and path.name != ".lock"]
    if others:
        raise ClusterError(f"--folder {folder}: holds other things ({others[0]}); choose an empty folder or a new one")


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One call at a time works on a folder."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.is_symlink() or folder.stat().st_uid != os.getuid():
            raise ClusterError(f"--folder {folder}: is a link or belongs to another user; choose another")
        lock = open(folder / ".lock", "w")  # noqa: SIM115 (held until the end)
    except OSError as error:
        raise ClusterError(f"--folder {folder}: cannot be used ({error.strerror}); choose another") from None
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
