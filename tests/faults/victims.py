"""Finds the processes of a run, and kills them."""

import contextlib
import os
import re
import signal
import time
from collections.abc import Iterable
from typing import Any, Protocol

import psutil

from tests.faults.plan import Plan
from tests.faults.stages import ACTOR, GCS, INTERRUPT, KILL, NODE, RAYLET, WORKER

MARK = "M3D_FAULT_TRIAL"
"""Variable in the environment of all processes of a trial, which tells them from those of others."""
NAMES = {RAYLET: "raylet", GCS: "gcs_server"}
TASKS = re.compile(r"(.*\.)?(TaskActor(\.\w+)?|prepare|evaluate|plan|compare|pretrain|tune)")
"""Titles that Ray gives to the processes of a ``TaskPool``: the class while they wait, the name of the pool at work."""
HELPERS = ("ray::IDLE", "ray::SPILL", "ray::RESTORE", "ray::DELETE", "ray::DashboardAgent", "ray::RuntimeEnvAgent")
"""Titles of Ray's processes that run nothing of a stage."""
GONE = (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess)


class Victim(Protocol):
    """What a trial kills."""

    def strike(self, plan: Plan) -> bool:
        """Kills it as planned. Returns whether it was still there."""
        ...


class ProcessVictim:
    """A process of the run."""

    def __init__(self, process: psutil.Process, *, leads_group: bool = False) -> None:
        """Args: the process, and whether SIGINT goes to its group, as the keyboard of a terminal sends it."""
        self._process, self._leads_group = process, leads_group

    def strike(self, plan: Plan) -> bool:
        """Sends the signals of the plan."""
        number = getattr(signal, plan.signal)
        try:
            if plan.pause_s:
                self._process.suspend()
                time.sleep(plan.pause_s)
            if number == signal.SIGINT and self._leads_group:
                os.killpg(self._process.pid, number)
            else:
                self._process.send_signal(number)
        except (*GONE, ProcessLookupError):
            return False
        return True


class NodeVictim:
    """A worker node of a cluster of ``ray.cluster_utils``."""

    def __init__(self, cluster: Any, node: Any) -> None:
        self._cluster, self._node = cluster, node

    def strike(self, plan: Plan) -> bool:
        """Kills the node's raylet, and with it all its workers."""
        self._cluster.remove_node(self._node, allow_graceful=False)
        return True


def find(plan: Plan, driver: int, cluster: Any) -> Victim | None:
    """What the plan kills, or None if it does not run now.

    Args:
        plan: the plan.
        driver: process id of the driver.
        cluster: cluster that the run has joined; None for its own Ray.
    """
    if plan.victim in (KILL, INTERRUPT):
        return ProcessVictim(psutil.Process(driver), leads_group=True)
    if plan.victim == NODE:
        nodes = sorted(cluster.worker_nodes, key=lambda node: node.unique_id)
        return NodeVictim(cluster, _chosen(nodes, plan.which)) if nodes else None
    candidates = [process for process in _below(driver) if is_victim(plan.victim, *_described(process))]
    return ProcessVictim(_chosen(candidates, plan.which)) if candidates else None


def is_victim(kind: str, name: str, title: str) -> bool:
    """Whether a process below a driver is one of a kind.

    Args:
        kind: worker, actor, raylet or GCS.
        name: name of its program.
        title: what it shows as its command line.
    """
    if kind in NAMES:
        return name == NAMES[kind]
    if not title.startswith("ray::") or title.startswith(HELPERS):
        return False
    is_task = TASKS.fullmatch(title.removeprefix("ray::").partition("(")[0]) is not None
    return kind in (WORKER, ACTOR) and is_task == (kind == WORKER)


def left_behind(mark: str, patience_s: float) -> list[str]:
    """Kills the processes of a trial that are still there after so many seconds. Returns what they show as command lines."""
    ends = time.monotonic() + patience_s
    while (alive := list(_marked(mark))) and time.monotonic() < ends:
        time.sleep(0.2)
    titles = [" ".join(_described(process)) for process in alive]
    for process in alive:
        with contextlib.suppress(*GONE):
            process.kill()
    return [title for title in titles if title.strip()]


def _below(driver: int) -> list[psutil.Process]:
    with contextlib.suppress(*GONE):
        return sorted(psutil.Process(driver).children(recursive=True), key=lambda process: process.pid)
    return []


def _described(process: psutil.Process) -> tuple[str, str]:
    """Name and command line of a process, empty if it is gone."""
    with contextlib.suppress(*GONE):
        return process.name(), " ".join(process.cmdline()).strip()  # a title is padded with spaces
    return "", ""


def _marked(mark: str) -> Iterable[psutil.Process]:
    for process in psutil.process_iter():
        with contextlib.suppress(*GONE, OSError):
            if process.status() != psutil.STATUS_ZOMBIE and process.environ().get(MARK) == mark:
                yield process


def _chosen(candidates: list[Any], number: float) -> Any:
    return candidates[min(len(candidates) - 1, int(number * len(candidates)))]
