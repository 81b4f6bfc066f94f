"""What nodes tell of their GPUs' memory, and what is done with it."""

import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
import torch

from m3d.backend.execution import Execution
from pipeline.condense import driver, worker
from pipeline.condense.worker import GroupWorker
from pipeline.config.run_config import Resources
from pipeline.runtime import nodes, session
from pipeline.runtime.placement import ACTIVATION_BYTES, MEMORY_SHARE
from tests.pipeline.support.runs import EXECUTION, placement_of, prepared, small_config, task_of


@pytest.fixture
def node(ray_cluster: None, monkeypatch: pytest.MonkeyPatch) -> str:
    """The only node of the cluster, of which nothing is known."""
    monkeypatch.setattr(nodes, "_KNOWN", {})
    return ray.nodes()[0]["NodeID"]


def test_a_node_tells_and_is_asked_once(node: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "_smallest", lambda: 24e9)
    assert nodes.of_nodes([node]) == {node: 24e9}
    monkeypatch.setattr(nodes, "_smallest", lambda: 1e9)
    assert nodes.of_nodes([node]) == {node: 24e9}


def test_logical_gpus_have_no_memory_to_tell(node: str) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has GPUs")
    assert nodes.of_nodes([node]) == {}
    assert nodes.of_nodes([]) == {}


def test_nodes_that_are_gone_fail_or_are_silent_do_not_hold_up_a_run(
    node: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = "0" * len(node)
    monkeypatch.setattr(nodes, "ANSWER_S", 30.0)
    monkeypatch.setattr(nodes, "_smallest", lambda: 24e9)
    assert nodes.of_nodes([gone, node]) == {node: 24e9}
    nodes._KNOWN.clear()
    monkeypatch.setattr(nodes, "_smallest", lambda: 1 / 0)
    assert nodes.of_nodes([node]) == {}
    monkeypatch.setattr(nodes, "ANSWER_S", 0.5)
    monkeypatch.setattr(nodes, "_smallest", lambda: time.sleep(100))
    assert nodes.of_nodes([node]) == {}


def test_only_nodes_with_gpus_are_asked_and_only_where_actors_take_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    told = [
        {"NodeID": "a", "Alive": True, "Resources": {"CPU": 4.0, "memory": 8e9}},
        {"NodeID": "b", "Alive": True, "Resources": {"CPU": 4.0, "GPU": 2.0, "memory": 8e9}},
        {"NodeID": "c", "Alive": False, "Resources": {}},
    ]
    asked: list[list[str]] = []
    monkeypatch.setattr(session.ray, "nodes", lambda: told)
    monkeypatch.setattr(nodes, "of_nodes", lambda ids: asked.append(ids) or dict.fromkeys(ids, 24e9))
    assert [one.gpu_memory for one in nodes.measured_nodes(Resources())] == [0, 24e9]
    assert [one.gpu_memory for one in nodes.measured_nodes(Resources(gpus_per_actor=0))] == [0, 0]
    assert asked == [["b"], []]


def test_blocks_suit_the_smallest_gpu_of_the_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, given = small_config(), []

    def choose(*settings: Any, memory: float | None, **more: Any) -> Execution:
        given.append(memory)
        return EXECUTION

    monkeypatch.setattr(worker, "choose", choose)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=80e9))
    task = task_of(config, tmp_path, prepared(config, tmp_path))
    for held, share in ((0.0, 1.0), (24e9, 1.0), (100e9, 1.0), (24e9, 0.5)):
        made = replace(task, gpu_memory=held, gpu_share=share)
        assert GroupWorker(made, torch.device("cuda")).execution() == EXECUTION
        GroupWorker(made, torch.device("cpu")).execution()
    assert given == [80e9, None, 24e9, None, 80e9, None, 12e9, None]


def test_an_actor_gets_the_group_that_suits_its_memory(tmp_path: Path) -> None:
    config = small_config()
    one = config.condense.views * 8**2 * 8 * ACTIVATION_BYTES / MEMORY_SHARE
    task = replace(task_of(config, tmp_path, prepared(config, tmp_path)), groups=((0,), (1, 2, 3)))
    made = driver._Drive(task, [0, 1], placement_of(config), config.resources, lambda group, event: None, None)
    assert made._take(1.5 * one) == (0, 1)
    assert made._take(1.5 * one) == (1, 1)
    made._put(0, 2)
    made._put(1, 1)
    assert made._take(3.5 * one) == (1, 1)
    assert made._take(0.0) == (0, 2)
