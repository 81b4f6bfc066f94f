"""How many workers there are, what each takes, and how many steps an epoch has."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.config.run_config import Pretrain
from pipeline.errors import UserError
from pipeline.pretrain.scaling import Shares, shares_of, steps_per_epoch
from pipeline.runtime import nodes as ray_nodes
from pipeline.runtime.placement import Node
from tests.pipeline.support.runs import prepared, small_config


def node(cpus: float, gpus: float = 0) -> Node:
    return Node(cpus=cpus, gpus=gpus, memory=8e9)


@pytest.mark.parametrize(
    ("settings", "nodes", "expected"),
    [
        ({}, [node(2)], (1, 2, 0)),
        ({}, [node(8), node(4)], (2, 4, 0)),
        ({}, [node(0), node(16), node(16)], (2, 16, 0)),
        ({"workers": 2}, [node(2)], (2, 1, 0)),
        ({"workers": 3}, [node(8)], (3, 2, 0)),
        ({"workers": 2, "cpus_per_worker": 0.5}, [node(1)], (2, 0.5, 0)),
        ({}, [node(16, 2), node(16, 1)], (3, 4, 1)),
        ({}, [node(64), node(4, 2)], (2, 2, 1)),
        ({"batch": 2}, [node(16, 4)], (2, 4, 1)),
        ({"gpus_per_worker": 0}, [node(16, 4)], (1, 16, 0)),
    ],
)
def test_shares(settings: dict[str, Any], nodes: list[Node], expected: tuple[int, float, float]) -> None:
    shares = shares_of(Pretrain(**settings), nodes)
    assert (shares.workers, shares.cpus, shares.gpus) == expected


def test_threads_are_the_complete_cpus() -> None:
    assert [Shares(workers=1, cpus=cpus, gpus=0).threads for cpus in (0.5, 1, 2.5)] == [1, 1, 2]


@pytest.mark.parametrize(
    ("settings", "nodes"),
    [
        ({"workers": 3, "cpus_per_worker": 1.0}, [node(2)]),
        ({"gpus_per_worker": 1}, [node(2)]),
        ({"workers": 3}, [node(16, 2)]),
    ],
)
def test_workers_that_do_not_fit(settings: dict[str, Any], nodes: list[Node], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_nodes, "autoscales", lambda: False)
    with pytest.raises(UserError, match=r"pretrain\.workers: \d workers of .* do not fit"):
        shares_of(Pretrain(**settings), nodes)
    monkeypatch.setattr(ray_nodes, "autoscales", lambda: True)
    shares_of(Pretrain(**settings), nodes)


def test_steps_leave_out_held_out_images(tmp_path: Path) -> None:
    whole, part = small_config("pretrain.batch=50"), small_config("pretrain.batch=50", "data.validation_fraction=0.5")
    dataset = prepared(whole, tmp_path)
    count = sum(len(dataset.train(label)) for label in range(4))
    assert steps_per_epoch(dataset, whole.pretrain) == count // 50
    reduced = prepared(part, tmp_path)
    assert steps_per_epoch(reduced, part.pretrain) == sum(len(reduced.train(label)) for label in range(4)) // 50
