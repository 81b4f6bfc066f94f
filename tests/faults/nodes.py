"""A Ray cluster whose worker nodes trials kill."""

import logging
import time
from typing import Any


class Nodes:
    """A head without CPUs and two worker nodes, started when it is first needed. A killed worker node is replaced."""

    def __init__(self) -> None:
        self._cluster: Any = None

    def ready(self) -> Any:
        """The cluster with both worker nodes alive."""
        from ray.cluster_utils import Cluster

        if self._cluster is None:
            logging.getLogger("ray").setLevel(logging.ERROR)
            head = {"num_cpus": 0, "include_dashboard": False}
            self._cluster = Cluster(initialize_head=True, head_node_args=head)
        while len(self._cluster.worker_nodes) < 2:
            self._cluster.add_node(num_cpus=1)
        time.sleep(1)
        return self._cluster

    def stop(self) -> None:
        """Stops the cluster if it was started."""
        if self._cluster is not None:
            self._cluster.shutdown()
