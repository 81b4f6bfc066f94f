"""One node of a cluster on this machine: how it is started, and how it is known to be up."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from cluster.errors import ClusterError
from cluster.local.ports import free_ports
from cluster.local.state import MARK, LocalCluster, LocalNode, end, processes, started_at

START_S = 120.0
"""Seconds that a node, and the job server, has to start."""
STOP_S = 20.0
"""Seconds that nodes have to end by themselves."""
STARTED = "Ray runtime started."
OBJECT_STORE_BYTES = 200 * 2**20
"""Of each node; the pipeline passes paths, not images."""


def started(
    name: str,
    more: list[str],
    cluster: LocalCluster,
    cpus: int,
    gpus: int,
    folder: Path,
    environment: Mapping[str, str],
) -> LocalNode:
    """Starts one node and waits until it has joined. Ends what it started where it has not."""
    (folder / name).mkdir(parents=True, exist_ok=True)
    listen, grpc, metrics, runtime_env = free_ports(4)
    first_gpu = _first_gpu(cluster, gpus)
    options = {
        "num-cpus": cpus,
        "num-gpus": gpus,
        "object-store-memory": OBJECT_STORE_BYTES,
        "temp-dir": folder / name,
        "min-worker-port": 0,
        "max-worker-port": 0,
        "dashboard-agent-listen-port": listen,
        "dashboard-agent-grpc-port": grpc,
        "metrics-export-port": metrics,
        "runtime-env-agent-port": runtime_env,
    }
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", *more, *flags(options)]
    with open(folder / f"{name}.log", "wb") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd=folder,
            env=_environment(name, cluster, range(first_gpu, first_gpu + gpus), environment),
        )
    node = LocalNode(
        name=name,
        pid=process.pid,
        started=started_at(process.pid) or "",
        metrics_port=metrics,
        cpus=cpus,
        gpus=gpus,
        first_gpu=first_gpu,
    )
    try:
        until(lambda: STARTED in _log(name, folder), node, "it does not start", folder)
    except BaseException:
        end(lambda: processes(replace(cluster, nodes=(node,)), node), STOP_S)
        process.poll()
        shutil.rmtree(folder / name, ignore_errors=True)
        raise
    return node


def _first_gpu(cluster: LocalCluster, gpus: int) -> int:
    """Where a run of devices begins that no other node of this machine has."""
    taken = {gpu for node in cluster.nodes for gpu in range(node.first_gpu, node.first_gpu + node.gpus)}
    first = 0
    while taken & set(range(first, first + gpus)):
        first += 1
    return first


def _environment(name: str, cluster: LocalCluster, gpus: range, environment: Mapping[str, str]) -> dict[str, str]:
    kept = {key: value for key, value in environment.items() if key not in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS")}
    made = {
        # A job's `python` is this one.
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", os.defpath)]),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": kept.get("RAY_AUTH_MODE", "disabled"),
        # Nobody waits here for a node that is stopped on purpose.
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": kept.get("RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S", "0"),
        MARK: f"{cluster.mark}:{name}",
    }
    if gpus:
        pool = [one for one in kept.get("CUDA_VISIBLE_DEVICES", "").split(",") if one]
        mine = [pool[gpu] for gpu in gpus] if len(pool) >= gpus.stop else [str(gpu) for gpu in gpus]
        made["CUDA_VISIBLE_DEVICES"] = ",".join(mine)
    return {**kept, **made}


def until(holds: Callable[[], bool], node: LocalNode, what: str, folder: Path) -> None:
    """Waits until something holds, as long as the node lives. Raises ClusterError with ``what`` where it does not come to hold."""
    ends = time.monotonic() + START_S
    while not holds():
        gone = started_at(node.pid) is None
        if gone or time.monotonic() > ends:
            lines = [line.strip() for line in _log(node.name, folder).splitlines() if line.strip()]
            said = next((line for line in reversed(lines) if "rror" in line), lines[-1] if lines else "it said nothing")
            raise ClusterError(
                f"{node.name}: {'it ended' if gone else f'{what} within {START_S:g} s'} ({said[:200]}); look into {folder}/{node.name}.log"
            )
        time.sleep(0.1)


def _log(name: str, folder: Path) -> str:
    return (folder / f"{name}.log").read_text(errors="replace")


def flags(options: Mapping[str, Any]) -> list[str]:
    """Options as words of a command line."""
    return [f"--{name}={value}" for name, value in options.items()]
