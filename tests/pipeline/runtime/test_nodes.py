"""The memory of GPUs, as nodes report it."""

import time

import pytest
import ray
import torch

from pipeline.config.run_config import Resources
from pipeline.runtime import nodes


@pytest.fixture
def node(ray_cluster: None, monkeypatch: pytest.MonkeyPatch) -> str:
    """The only node of the cluster, which has not reported yet."""
    monkeypatch.setattr(nodes, "REPORTED", {})
    return ray.nodes()[0]["NodeID"]


def test_a_node_reports_and_is_asked_once(node: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "smallest_local_gpu", lambda: 24e9)
    assert nodes.gpu_memory([node]) == {node: 24e9}
    monkeypatch.setattr(nodes, "smallest_local_gpu", lambda: 1e9)
    assert nodes.gpu_memory([node]) == {node: 24e9}


def test_logical_gpus_have_no_memory_to_report(node: str) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has GPUs")
    assert nodes.gpu_memory([node]) == {}
    assert nodes.gpu_memory([]) == {}


def test_nodes_that_are_gone_fail_or_are_silent_do_not_delay_a_run(node: str, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = "0" * len(node)
    monkeypatch.setattr(nodes, "ANSWER_S", 30.0)
    monkeypatch.setattr(nodes, "smallest_local_gpu", lambda: 24e9)
    assert nodes.gpu_memory([gone, node]) == {node: 24e9}
    nodes.REPORTED.clear()
    monkeypatch.setattr(nodes, "smallest_local_gpu", lambda: 1 / 0)
    assert nodes.gpu_memory([node]) == {}
    monkeypatch.setattr(nodes, "ANSWER_S", 0.5)
    monkeypatch.setattr(nodes, "smallest_local_gpu", lambda: time.sleep(100))
    assert nodes.gpu_memory([node]) == {}


def test_only_nodes_with_gpus_are_asked_and_only_if_actors_take_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [
        {"NodeID": "a", "Alive": True, "Resources": {"CPU": 4.0, "memory": 8e9}},
        {"NodeID": "b", "Alive": True, "Resources": {"CPU": 4.0, "GPU": 2.0, "memory": 8e9}},
        {"NodeID": "c", "Alive": False, "Resources": {}},
    ]
    asked: list[list[str]] = []
    monkeypatch.setattr(nodes.ray, "nodes", lambda: entries)
    monkeypatch.setattr(nodes, "gpu_memory", lambda ids: asked.append(ids) or dict.fromkeys(ids, 24e9))
    assert [node.gpu_memory for node in nodes.measured_nodes(Resources())] == [0, 24e9]
    assert [node.gpu_memory for node in nodes.measured_nodes(Resources(gpus_per_actor=0))] == [0, 0]
    assert asked == [["b"], []]
