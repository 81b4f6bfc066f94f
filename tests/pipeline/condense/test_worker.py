"""The worker, called directly: no Ray."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from m3d.backend.execution import Execution
from pipeline.condense import worker as condense_worker
from pipeline.condense.events import Done, ExecutionChanged, GroupEvent, Progress, Stopped
from pipeline.condense.worker import GroupWorker
from pipeline.errors import DeviceError, UserError
from pipeline.formats.condensed_reader import parse_shard
from tests.pipeline.support.runs import EXECUTION, prepared, small_config, task_of

CPU = torch.device("cpu")


def first_iteration(worker: GroupWorker) -> int:
    """Where the worker starts group 0."""
    event = next(worker.condense(0, EXECUTION))
    assert isinstance(event, Progress)
    return event.iteration


def changes(events: list[GroupEvent]) -> list[ExecutionChanged]:
    """The changes of the execution among some events."""
    return [event for event in events if isinstance(event, ExecutionChanged)]


def shard(out: Path, group: int = 0) -> bytes:
    return (out / "checkpoints" / f"group-{group:05d}.shard.arrow").read_bytes()


def checkpoint(out: Path, group: int = 0) -> Path:
    return out / "checkpoints" / f"group-{group:05d}.safetensors"


def test_condenses_a_group(tmp_path: Path) -> None:
    config = small_config()
    worker = GroupWorker(task_of(config, tmp_path, prepared(config, tmp_path)), CPU)
    events = list(worker.condense(1, EXECUTION))
    assert events[-1] == Done(iteration=40)
    logged = [sample.iteration for event in events if isinstance(event, Progress) for sample in event.losses]
    assert logged == [1, 10, 20, 30, 40]
    table = parse_shard(shard(tmp_path, 1), "shard")
    assert table.column("label").to_pylist() == [2, 3]
    assert worker.store.finished(1)
    assert not worker.store.finished(0)
    assert not checkpoint(tmp_path, 1).exists()


def test_stopped_and_resumed_gives_the_same_bytes(tmp_path: Path) -> None:
    config = small_config("resources.checkpoint_every_s=0.001")
    cache = prepared(config, tmp_path)
    list(GroupWorker(task_of(config, tmp_path / "uninterrupted", cache), CPU).condense(0, EXECUTION))
    task = task_of(config, tmp_path / "parts", cache)
    worker = GroupWorker(task, CPU)
    stream = worker.condense(0, EXECUTION)
    assert next(stream) == Progress(iteration=0)
    worker.stop()
    assert list(stream)[-1] == Stopped(iteration=1)
    assert checkpoint(tmp_path / "parts").exists()
    resumed = list(GroupWorker(task, CPU).condense(0, EXECUTION))
    assert resumed[0] == Progress(iteration=1)
    assert shard(tmp_path / "parts") == shard(tmp_path / "uninterrupted")


def test_groups_of_another_size_have_the_same_draws(tmp_path: Path) -> None:
    config = small_config()
    cache = prepared(config, tmp_path)
    for name, groups in (("two", ((0, 1), (2, 3))), ("one", ((0, 1, 2, 3),))):
        task = task_of(config, tmp_path / name, cache)
        worker = GroupWorker(replace(task, groups=groups), CPU)
        for group in range(len(groups)):
            list(worker.condense(group, EXECUTION))
    together = parse_shard(shard(tmp_path / "one"), "one").column("image").combine_chunks().to_numpy_ndarray()
    second = parse_shard(shard(tmp_path / "two", 1), "two").column("image").combine_chunks().to_numpy_ndarray()
    torch.testing.assert_close(torch.tensor(together[2:]), torch.tensor(second), rtol=1e-3, atol=1e-3)


def test_a_loss_that_is_not_finite_stops_the_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = small_config()
    from m3d import passes

    original = passes.mmd2
    monkeypatch.setattr(passes, "mmd2", lambda *args, **kwargs: original(*args, **kwargs) * float("inf"))
    worker = GroupWorker(task_of(config, tmp_path, prepared(config, tmp_path)), CPU)
    with pytest.raises(UserError, match=r"group 0 .*not finite at iteration 0 .*learning_rate.*smaller"):
        list(worker.condense(0, EXECUTION))
    assert not worker.store.finished(0)


def test_a_checkpoint_of_another_configuration_is_not_used(tmp_path: Path) -> None:
    config = small_config()
    cache = prepared(config, tmp_path)
    worker = GroupWorker(task_of(config, tmp_path, cache), CPU)
    stream = worker.condense(0, EXECUTION)
    next(stream)
    worker.stop()
    list(stream)
    other = small_config("seed=1")
    assert first_iteration(GroupWorker(task_of(other, tmp_path, cache), CPU)) == 0


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError("CUDA error: unspecified launch failure")],
)
def test_memory_and_gpu_errors_are_device_errors(
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
    assert [change.execution.synthetic_block for change in changes(events)] == [8, 4, 2]
    assert isinstance(events[-1], Done)
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
    (change,) = changes(events)
    assert not change.execution.compiled
    assert "goes on without the compiler" in change.why
    assert isinstance(events[-1], Done)


def test_other_errors_are_raised_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from m3d import passes

    def fail(*args: object, **kwargs: object) -> None:
        raise RuntimeError("shapes do not fit")

    config = small_config()
    monkeypatch.setattr(passes, "mmd2", fail)
    worker = GroupWorker(task_of(config, tmp_path, prepared(config, tmp_path)), CPU)
    with pytest.raises(RuntimeError, match="shapes"):
        list(worker.condense(0, EXECUTION))


def test_checkpoints_come_at_the_interval_in_iterations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = small_config("resources.checkpoint_every=15")
    worker = GroupWorker(task_of(config, tmp_path, prepared(config, tmp_path)), CPU)
    saved: list[int] = []
    monkeypatch.setattr(worker.store, "save_checkpoint", lambda group, state: saved.append(state.iteration))
    list(worker.condense(0, EXECUTION))
    assert saved == [15, 30]


def test_class_shards_are_opened_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, opened = small_config(), []
    dataset = prepared(config, tmp_path)

    def open_dataset(*arguments: Any) -> Any:
        opened.append(arguments)
        return dataset

    monkeypatch.setattr(condense_worker, "PreparedDataset", open_dataset)
    worker = GroupWorker(task_of(config, tmp_path, dataset), CPU)
    assert not opened  # not before the driver can be told of an error
    worker.execution()
    for group in range(2):
        list(worker.condense(group, EXECUTION))
    assert opened == [(dataset.folder, config.data)]


def test_blocks_suit_the_smallest_gpu_of_the_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = small_config()
    memories: list[float | None] = []

    def choose(*settings: Any, memory: float | None, **more: Any) -> Execution:
        memories.append(memory)
        return EXECUTION

    monkeypatch.setattr(condense_worker, "choose", choose)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=80e9))
    task = task_of(config, tmp_path, prepared(config, tmp_path))
    for smallest, share in ((0.0, 1.0), (24e9, 1.0), (100e9, 1.0), (24e9, 0.5)):
        shared = replace(task, gpu_memory=smallest, gpu_share=share)
        assert GroupWorker(shared, torch.device("cuda")).execution() == EXECUTION
        GroupWorker(shared, CPU).execution()
    assert memories == [80e9, None, 24e9, None, 80e9, None, 12e9, None]


def snapshots(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (out / "snapshots").iterdir()}


@pytest.mark.parametrize("stopped_at", [1, 2])
def test_snapshots_are_those_of_an_uninterrupted_run_and_change_no_result(tmp_path: Path, stopped_at: int) -> None:
    config = small_config("report.snapshots=4", "resources.checkpoint_every_s=0.001")
    cache = prepared(config, tmp_path)
    list(GroupWorker(task_of(config, tmp_path / "uninterrupted", cache), CPU).condense(0, EXECUTION))
    without = small_config("report.snapshots=0")
    list(GroupWorker(task_of(without, tmp_path / "without", cache), CPU).condense(0, EXECUTION))
    task = replace(task_of(config, tmp_path / "parts", cache), report_every_s=0.0)
    worker = GroupWorker(task, CPU)
    stream = worker.condense(0, EXECUTION)
    for _ in range(
        stopped_at
    ):  # an event before the first iteration and after each; a snapshot is due after the second
        next(stream)
    worker.stop()
    assert list(stream)[-1] == Stopped(iteration=stopped_at)
    list(GroupWorker(task, CPU).condense(0, EXECUTION))
    names = [f"group-00000-{iteration:09d}.safetensors" for iteration in (0, 2, 10, 22)]
    assert sorted(snapshots(tmp_path / "parts")) == names
    for name in names:
        parts, uninterrupted = (load_file(tmp_path / run / "snapshots" / name) for run in ("parts", "uninterrupted"))
        assert torch.equal(parts["images"], uninterrupted["images"])
    assert not (tmp_path / "without" / "snapshots").exists()
    assert shard(tmp_path / "without") == shard(tmp_path / "uninterrupted") == shard(tmp_path / "parts")


def test_a_run_that_began_without_snapshots_gets_that_of_its_start(tmp_path: Path) -> None:
    cache = prepared(small_config(), tmp_path)
    task = task_of(small_config("report.snapshots=0"), tmp_path / "out", cache)
    worker = GroupWorker(task, CPU)
    stream = worker.condense(0, EXECUTION)
    next(stream)
    worker.stop()
    list(stream)
    list(GroupWorker(task_of(small_config(), tmp_path / "out", cache), CPU).condense(0, EXECUTION))
    uninterrupted = task_of(small_config(), tmp_path / "other", cache)
    list(GroupWorker(uninterrupted, CPU).condense(0, EXECUTION))
    start = "group-00000-000000000.safetensors"
    later, first = (load_file(tmp_path / run / "snapshots" / start) for run in ("out", "other"))
    assert torch.equal(later["images"], first["images"])


def test_the_start_is_measured_under_the_same_encoder(tmp_path: Path) -> None:
    config = small_config()
    worker = GroupWorker(task_of(config, tmp_path, prepared(config, tmp_path)), CPU)
    events = list(worker.condense(0, EXECUTION))
    samples = [sample for event in events if isinstance(event, Progress) for sample in event.losses]
    assert samples[0].start_losses == pytest.approx(samples[0].losses, rel=1e-5)  # nothing has moved yet
    assert all(len(sample.start_losses) == 2 for sample in samples)
    assert samples[-1].losses != samples[-1].start_losses
