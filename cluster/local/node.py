"""Starts one node of a cluster on this machine, and waits until it is up."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from cluster.errors import ClusterError
from cluster.local import token
from cluster.local.ports import LOOPBACK, free_ports
from cluster.local.state import MARK, LocalCluster, LocalNode, end, processes, started_at

START_S = 120.0
"""Seconds that a node, and the job server, has to start."""
STOP_S = 20.0
"""Seconds that processes have to end by themselves before they are killed."""
STARTED = "Ray runtime started."
"""Line in a node's log once the node has joined."""
RAY_START = """
import sys
import ray._private.ray_constants
import ray._private.services
ray._private.ray_constants.ENABLE_RAY_CLUSTER = True
ray._private.services.get_node_ip_address = lambda address=None: "127.0.0.1"
from ray.scripts.scripts import main
main()
"""
"""``ray start`` that keeps to the loopback interface.

With 127.0.0.1 as the address of a node, all of Ray's ports listen there only. But ``ray start`` replaces that address
with one that other machines can reach, unless the variable in ``LOOPBACK_ONLY`` is 0, and then it refuses a second node.
"""
LOOPBACK_ONLY = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Variable by which everything that a node starts, and a job's driver, takes 127.0.0.1 as the node's address."""
OBJECT_STORE_BYTES = 200 * 2**20
"""Size of a node's object store; the pipeline passes paths, not images."""


@dataclass(frozen=True, kw_only=True)
class NodeOptions:
    """What every new node of a cluster is started with."""

    cpus: int
    gpus: int
    """Number of logical GPUs: Ray counts them whether the machine has any or not."""
    folder: Path
    """Folder of the cluster."""
    environment: Mapping[str, str]
    """Environment from which the node's own is made."""


def start(name: str, arguments: list[str], cluster: LocalCluster, options: NodeOptions) -> LocalNode:
    """Starts one node and waits until it has joined; returns it.

    Args:
        name: of the node, its folder and its log.
        arguments: of ``ray start`` for this node alone.
        cluster: to join, or to begin.
        options: of every node.

    Raises:
        ClusterError: it does not start; what was started is stopped.
    """
    (options.folder / name).mkdir(parents=True, exist_ok=True)
    listen, grpc, metrics, runtime_env = free_ports(4)
    first_gpu = _first_gpu(cluster, options.gpus)
    settings: dict[str, int | str | Path] = {
        "node-ip-address": LOOPBACK,
        "num-cpus": options.cpus,
        "num-gpus": options.gpus,
        "object-store-memory": OBJECT_STORE_BYTES,
        "temp-dir": options.folder / name,
        "min-worker-port": 0,
        "max-worker-port": 0,
        "dashboard-agent-listen-port": listen,
        "dashboard-agent-grpc-port": grpc,
        "metrics-export-port": metrics,
        "runtime-env-agent-port": runtime_env,
    }
    command = [sys.executable, "-c", RAY_START, "start", "--block", *arguments, *flags(settings)]
    with open(options.folder / f"{name}.log", "wb") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd=options.folder,
            env=_environment(name, cluster, range(first_gpu, first_gpu + options.gpus), options),
        )
    node = LocalNode(
        name=name,
        pid=process.pid,
        started=started_at(process.pid) or "",
        metrics_port=metrics,
        cpus=options.cpus,
        gpus=options.gpus,
        first_gpu=first_gpu,
    )
    try:
        wait_until(lambda: STARTED in _log(name, options.folder), node, "it did not start", options.folder)
    except BaseException:
        end(lambda: processes(replace(cluster, nodes=(node,)), node), STOP_S)
        process.poll()
        shutil.rmtree(options.folder / name, ignore_errors=True)
        raise
    return node


def wait_until(condition: Callable[[], bool], node: LocalNode, problem: str, folder: Path) -> None:
    """Waits until a condition is true.

    Raises:
        ClusterError: the node's process ended, or the condition was not true in time, which ``problem`` names.
    """
    deadline = time.monotonic() + START_S
    while not condition():
        ended = started_at(node.pid) is None
        if ended or time.monotonic() > deadline:
            lines = [line.strip() for line in _log(node.name, folder).splitlines() if line.strip()]
            last = next((line for line in reversed(lines) if "rror" in line), lines[-1] if lines else "without output")
            what = "it ended" if ended else f"{problem} within {START_S:g} s"
            raise ClusterError(f"{node.name}: {what} ({last[:200]}); see {folder}/{node.name}.log")
        time.sleep(0.1)


def flags(options: Mapping[str, int | str | Path]) -> list[str]:
    """Options as words of a command line."""
    return [f"--{name}={value}" for name, value in options.items()]


def _first_gpu(cluster: LocalCluster, gpus: int) -> int:
    """The first of ``gpus`` consecutive devices that no other node of the cluster has."""
    taken = {gpu for node in cluster.nodes for gpu in range(node.first_gpu, node.first_gpu + node.gpus)}
    first = 0
    while taken & set(range(first, first + gpus)):
        first += 1
    return first


def _environment(name: str, cluster: LocalCluster, gpus: range, options: NodeOptions) -> dict[str, str]:
    removed = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
    kept = {key: value for key, value in options.environment.items() if key not in removed}
    own = {
        # The `python` of a job is the interpreter that runs here.
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", os.defpath)]),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "disabled",
        **token.variables(options.folder),
        **LOOPBACK_ONLY,
        # Nobody waits here for a node that is stopped on purpose.
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": kept.get("RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S", "0"),
        MARK: f"{cluster.mark}:{name}",
    }
    if gpus:
        visible = [device for device in kept.get("CUDA_VISIBLE_DEVICES", "").split(",") if device]
        devices = [visible[gpu] for gpu in gpus] if len(visible) >= gpus.stop else [str(gpu) for gpu in gpus]
        own["CUDA_VISIBLE_DEVICES"] = ",".join(devices)
    return {**kept, **own}


def _log(name: str, folder: Path) -> str:
    return (folder / f"{name}.log").read_text(errors="replace")
