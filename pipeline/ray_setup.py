"""The only ray.init of the project, and what the cluster has to offer."""

import logging
import os

import ray

from pipeline.config import Resources
from pipeline.errors import FailedError, UserError
from pipeline.plan import Node


def start(resources: Resources) -> None:
    """Joins the cluster that ``resources.address`` or RAY_ADDRESS names, else starts one of this run's own.

    It never attaches to a Ray that merely happens to run on this machine. A process that is connected
    already stays connected.

    Raises:
        UserError: a Ray Client address, or a cluster that does not answer.
    """
    if ray.is_initialized():
        return
    address = resources.address or os.environ.get("RAY_ADDRESS") or "local"
    if address.startswith("ray://"):
        raise UserError(
            f"resources.address: given {address}, a Ray Client address; give the cluster's own address (HOST:6379) on one "
            "of its nodes, or submit the run as a job"
        )
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    own = address == "local"
    try:
        ray.init(
            address=address,
            include_dashboard=False if own else None,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        raise UserError(
            f"resources.address: no Ray cluster answers at {address} ({_first_line(error)}); check it with `ray status --address {address}`"
        ) from None


def stop() -> None:
    """Leaves the cluster, or stops the run's own."""
    ray.shutdown()


def nodes() -> list[Node]:
    """The nodes that are alive."""
    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not alive:
        raise FailedError("the Ray cluster has no living node; start one and run the same command again")
    return [Node(cpus=held.get("CPU", 0), gpus=held.get("GPU", 0), memory=held.get("memory", 0)) for held in alive]


def autoscales() -> bool:
    """Whether an autoscaler may add nodes, so that waiting for one makes sense."""
    from ray._private.state import state  # pyright: ignore[reportMissingImports]

    try:
        config = state.get_cluster_config()
    except Exception:  # a private call: any change in it must not stop a run
        return False
    return bool(config is not None and getattr(config, "node_group_configs", None))


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
