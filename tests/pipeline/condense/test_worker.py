"""The worker, called directly: no Ray."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pipeline.condense.worker import GroupWorker
from pipeline.errors import DeviceError, UserError
from pipeline.formats.condensed_reader import parse_shard
from tests.pipeline.support.runs import EXECUTION, prepared, small_config, task_of

CPU = torch.device("cpu")


def shard(out: Path, group: int = 0) -> bytes:
    return (out / "checkpoints" / f"group-{group:05d}.shard.arrow").read_bytes()


def checkpoint(out: Path, group: int = 0) -> Path:
    return out / "checkpoints" / f"group-{group:05d}.safetensors"


def test_condenses_a_group(tmp_path: Path) -> None:
    config = small_config()
    worker = GroupWorker(task_of(config, tmp_path, prepared(config, tmp_path)), CPU)
    events = list(worker.condense(1, EXECUTION))
    assert events[-1] == {"event": "done", "iteration": 40}
    logged = [iteration for event in events[:-1] for iteration, _, _ in event["losses"]]
    assert logged == [1, 10, 20, 30, 40]
    table = parse_shard(shard(tmp_path, 1), "shard")
    assert table.column("label").to_pylist() == [2, 3]
    assert worker.ledger.finished(1)
    assert not worker.ledger.finished(0)
    assert not checkpoint(tmp_path, 1).exists()


def test_stopped_and_resumed_gives_the_same_bytes(tmp_path: Path) -> None:
    config = small_config("resources.checkpoint_every_s=0.001")
    cache = prepared(config, tmp_path)
    list(GroupWorker(task_of(config, tmp_path / "whole", cache), CPU).condense(0, EXECUTION))
    task = task_of(config, tmp_path / "parts", cache)
    worker = GroupWorker(task, CPU)
    stream = worker.condense(0, EXECUTION)
    assert next(stream)["iteration"] == 0
    worker.stop()
    assert list(stream)[-1] == {"event": "stopped", "iteration": 1}
    assert checkpoint(tmp_path / "parts").exists()
    again = list(GroupWorker(task, CPU).condense(0, EXECUTION))
    assert again[0]["iteration"] == 1
    assert shard(tmp_path / "parts") == shard(tmp_path / "whole")


def test_groups_of_another_size_draw_alike(tmp_path: Path) -> None:
    config = small_config()
    cache = prepared(config, tmp_path)
    for name, groups in (("two", ((0, 1), (2, 3))), ("one", ((0, 1, 2, 3),))):
        task = task_of(config, tmp_path / name, cache)
        worker = GroupWorker(type(task)(**{**task.__dict__, "groups": groups}), CPU)
        for group in range(len(groups)):
            list(worker.condense(group, EXECUTION))
    whole = parse_shard(shard(tmp_path / "one"), "one").column("image").combine_chunks().to_numpy_ndarray()
    part = parse_shard(shard(tmp_path / "two", 1), "two").column("image").combine_chunks().to_numpy_ndarray()
    torch.testing.assert_close(torch.tensor(whole[2:]), torch.tensor(part), rtol=1e-3, atol=1e-3)


def test_a_loss_that_is_not_finite_stops_with_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = small_config()
    from m3d import passes

    original = passes.mmd2
    monkeypatch.setattr(passes, "mmd2", lambda *args, **kwargs: original(*args, **kwargs) * float("inf"))
    worker = GroupWorker(task_of(config, tmp_path, prepared(config, tmp_path)), CPU)
    with pytest.raises(UserError, match=r"group 0 .*not finite at iteration 0 .*learning_rate.*smaller"):
        list(worker.condense(0, EXECUTION))
    assert not worker.ledger.finished(0)


def test_a_checkpoint_of_another_configuration_is_not_used(tmp_path: Path) -> None:
    config = small_config()
    cache = prepared(config, tmp_path)
    worker = GroupWorker(task_of(config, tmp_path, cache), CPU)
    stream = worker.condense(0, EXECUTION)
    next(stream)
    worker.stop()
    list(stream)
    other = small_config("seed=1")
    assert next(GroupWorker(task_of(other, tmp_path, cache), CPU).condense(0, EXECUTION))["iteration"] == 0


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError("CUDA error: unspecified launch failure")],
)
def test_memory_and_gpu_errors_are_the_devices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    from m3d import passes

    def fail(*args: object, **kwargs: object) -> None:
        raise error

    config = small_config()
    monkeypatch.setattr(passes, "mmd2", fail)
    worker = GroupWorker(task_of(config, tmp_path, prepared(config, tmp_path)), CPU)
    with pytest.raises(DeviceError):
        list(worker.condense(0, EXECUTION))


def test_blocks_are_halved_until_they_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from m3d.passes import Passes

    encode = Passes.views

    def small(self: Passes, tiles: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        if len(tiles) > limit:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return encode(self, tiles, numbers)

    config, limit = small_config(), 2
    monkeypatch.setattr(Passes, "views", small)
    worker = GroupWorker(task_of(config, tmp_path, prepared(config, tmp_path)), CPU)
    events = list(worker.condense(0, replace(EXECUTION, real_block=16, synthetic_block=16)))
    told = [event["execution"]["synthetic_block"] for event in events if event["event"] == "execution"]
    assert told == [8, 4, 2]
    assert events[-1]["event"] == "done"
    limit = 0
    with pytest.raises(UserError, match=r"condense\.block: one image at a time"):
        list(worker.condense(1, EXECUTION))


@pytest.mark.parametrize("choice", ["auto", "on"])
def test_a_compiler_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, choice: str) -> None:
    from torch._dynamo.exc import BackendCompilerFailed

    from m3d import passes

    def broken(*args: object) -> None:
        raise BackendCompilerFailed(lambda: None, RuntimeError("no space left"), None)

    config = small_config(f"condense.compile={choice}")
    monkeypatch.setattr(passes, "compiled", lambda function, device: broken)
    worker = GroupWorker(task_of(config, tmp_path, prepared(config, tmp_path)), CPU)
    compiled = replace(EXECUTION, compiled=True, real_block=63)
    if choice == "on":
        with pytest.raises(UserError, match=r"the compiler failed \(no space left\).*condense\.compile=off"):
            list(worker.condense(0, compiled))
        return
    events = list(worker.condense(0, compiled))
    (told,) = [event for event in events if event["event"] == "execution"]
    assert not told["execution"]["compiled"]
    assert "goes on without the compiler" in told["why"]
    assert events[-1]["event"] == "done"


def test_other_errors_are_the_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from m3d import passes

    def fail(*args: object, **kwargs: object) -> None:
        raise RuntimeError("shapes do not fit")

    config = small_config()
    monkeypatch.setattr(passes, "mmd2", fail)
    worker = GroupWorker(task_of(config, tmp_path, prepared(config, tmp_path)), CPU)
    with pytest.raises(RuntimeError, match="shapes"):
        list(worker.condense(0, EXECUTION))


def test_checkpoints_come_every_so_many_iterations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = small_config("resources.checkpoint_every=15")
    worker = GroupWorker(task_of(config, tmp_path, prepared(config, tmp_path)), CPU)
    saved: list[int] = []
    monkeypatch.setattr(worker.ledger, "save_checkpoint", lambda group, state: saved.append(state.iteration))
    list(worker.condense(0, EXECUTION))
    assert saved == [15, 30]
