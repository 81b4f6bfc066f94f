"""Networks that are kept while they are trained."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from m3d import trials
from pipeline.evaluate.resume import UnderWay
from tests.m3d.training.easy_problem import QUIET, easy_training, held_out, recipe_of

TENSORS = {"weight.a": torch.arange(3.0), "random": torch.arange(5, dtype=torch.uint8)}


def test_what_is_kept_comes_back_and_goes(tmp_path: Path) -> None:
    kept = UnderWay(str(tmp_path), "key", every_s=0)
    assert kept.load(3) is None
    kept.keep(3, 7, lambda: TENSORS)
    found = UnderWay(str(tmp_path), "key").load(3)
    assert found is not None
    assert found[0] == 7
    assert all(torch.equal(found[1][name], value) for name, value in TENSORS.items())
    assert UnderWay(str(tmp_path), "another key").load(3) is None
    kept.finished(3)
    kept.finished(3)
    assert kept.load(3) is None


def test_writes_are_seldom(tmp_path: Path) -> None:
    kept = UnderWay(str(tmp_path), "key", every_s=1000)
    kept.load(0)
    kept.keep(0, 1, lambda: TENSORS)
    assert kept.load(0) is None


def test_a_damaged_one_does_not_count(tmp_path: Path) -> None:
    kept = UnderWay(str(tmp_path), "key", every_s=0)
    kept.keep(0, 1, lambda: TENSORS)
    (path,) = (tmp_path / "networks").iterdir()
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    assert kept.load(0) is None
    path.write_bytes(bytes(data[:40]))
    assert kept.load(0) is None


@pytest.mark.parametrize("every", [0, 2])
def test_trials_go_on_with_what_is_kept(tmp_path: Path, every: int) -> None:
    recipe = recipe_of(replace(QUIET, epochs=6))
    ((_, expected),) = trials(recipe, *easy_training(), held_out(), seeds=(4,), best_epoch=every)
    kept = UnderWay(str(tmp_path), "key", every_s=0)
    kept.finished = lambda seed: None  # as if it had been killed after the last epoch but before it was scored
    list(trials(recipe, *easy_training(), held_out(), seeds=(4,), best_epoch=every, keeper=kept))
    asked: list[int] = []

    class Spy(UnderWay):
        def keep(self, seed: int, epoch: int, tensors: Any) -> None:
            asked.append(epoch)

    again = Spy(str(tmp_path), "key")
    ((_, found),) = trials(recipe, *easy_training(), held_out(), seeds=(4,), best_epoch=every, keeper=again)
    assert asked == []  # all epochs were done
    assert torch.equal(found.confusion, expected.confusion)
    assert found.best_accuracy == expected.best_accuracy
    assert list((tmp_path / "networks").iterdir()) == []
