"""Trajectories and snapshots, trained by the plain function that every worker runs, without Ray."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pipeline.errors import UserError
from pipeline.formats.run_folder import RunFolder
from pipeline.pretrain import training
from pipeline.pretrain.events import EpochDone, Event, Progress, TrajectoryStarted
from pipeline.pretrain.reader import read_experts
from tests.pipeline.support.pretraining import (
    FOLDER,
    Stopped,
    config_of,
    free_port,
    one_of_two,
    snapshots,
    task_of,
    trained,
)
from tests.pipeline.support.runs import prepared


def test_a_trajectory_has_the_first_the_last_and_every_third_epoch(tmp_path: Path) -> None:
    config = config_of("pretrain.trajectories=2")
    dataset = prepared(config, tmp_path)
    events: list[Event] = []
    manifest = trained(config, RunFolder.at(tmp_path), dataset, emit=events.append)
    assert [record["seed"] for record in manifest["trajectories"]] == [0, 1]
    for seed, record in enumerate(manifest["trajectories"]):
        assert [entry["epoch"] for entry in record["snapshots"]] == [0, 3, 4]
        assert len(record["losses"]) == 4
        assert record["losses"][-1] < 0.7 * record["losses"][0]
        assert all(entry["file"].startswith(f"trajectory-{seed:05d}/") for entry in record["snapshots"])
    assert not (tmp_path / FOLDER / "checkpoint.safetensors").exists()
    assert [event.kind for event in events if not isinstance(event, Progress)][:3] == ["worker", "begin", "epoch"]
    assert read_experts(RunFolder.at(tmp_path), "convnet1") == manifest


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_a_stopped_training_resumes_to_the_same_bytes(tmp_path: Path, stop: int) -> None:
    config = config_of()
    dataset = prepared(config, tmp_path)
    trained(config, RunFolder.at(tmp_path / "complete"), dataset)

    def report(done: EpochDone) -> None:
        if done.epoch == stop:
            raise Stopped

    out = tmp_path / "stopped"
    with pytest.raises(Stopped):
        trained(config, RunFolder.at(out), dataset, report=report)
    assert (out / FOLDER / "checkpoint.safetensors").exists()
    events: list[Event] = []
    trained(config, RunFolder.at(out), dataset, emit=events.append)
    assert [event.epoch for event in events if isinstance(event, TrajectoryStarted)] == [stop]
    assert snapshots(out) == snapshots(tmp_path / "complete")


def test_a_training_resumes_in_the_precision_in_which_it_began(tmp_path: Path) -> None:
    wide = config_of("pretrain.precision=auto", "pretrain.trajectories=2")
    dataset = prepared(wide, tmp_path)

    def report(done: EpochDone) -> None:
        if done.epoch == 1:
            raise Stopped

    real = training.WholeSetTrainer
    with pytest.MonkeyPatch.context() as on_another_machine:
        on_another_machine.setattr(
            training, "WholeSetTrainer", lambda *args, **named: real(*args, **{**named, "precision": "bfloat16"})
        )
        with pytest.raises(Stopped):
            trained(wide, RunFolder.at(tmp_path), dataset, report=report)
    with pytest.MonkeyPatch.context() as here:
        here.setattr("m3d.backend.precision.cpu_has_amx", lambda: False)
        manifest = trained(wide, RunFolder.at(tmp_path), dataset)
        assert [record["precision"] for record in manifest["trajectories"]] == ["bfloat16", "bfloat16"]
        more = trained(config_of("pretrain.precision=auto", "pretrain.trajectories=3"), RunFolder.at(tmp_path), dataset)
    assert more["trajectories"][2]["precision"] == "float32"


def test_a_damaged_checkpoint_costs_only_its_work(tmp_path: Path) -> None:
    config = config_of()
    dataset = prepared(config, tmp_path)

    def report(done: EpochDone) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        trained(config, RunFolder.at(tmp_path), dataset, report=report)
    path = tmp_path / FOLDER / "checkpoint.safetensors"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(bytes(data))
    events: list[Event] = []
    trained(config, RunFolder.at(tmp_path), dataset, emit=events.append)
    assert [event.epoch for event in events if isinstance(event, TrajectoryStarted)] == [0]


def test_more_trajectories_keep_the_existing_ones(tmp_path: Path) -> None:
    single, double = config_of(), config_of("pretrain.trajectories=2", "pretrain.report_every=2")
    dataset = prepared(single, tmp_path)
    first = trained(single, RunFolder.at(tmp_path), dataset)
    events: list[Event] = []
    both = trained(double, RunFolder.at(tmp_path), dataset, emit=events.append)
    assert [event.seed for event in events if isinstance(event, TrajectoryStarted)] == [1]
    assert both["trajectories"][0] == first["trajectories"][0]
    again = trained(single, RunFolder.at(tmp_path), dataset)
    assert len(again["trajectories"]) == 2


def test_a_loss_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    config = config_of("pretrain.learning_rate=1e30", "pretrain.warmup=0")
    dataset = prepared(config, tmp_path)
    with pytest.raises(UserError, match=r"epoch 1 \(seed 0\) is not finite; lower pretrain\.learning_rate"):
        trained(config, RunFolder.at(tmp_path), dataset)


def test_two_workers_compute_what_one_does(tmp_path: Path) -> None:
    config = config_of("pretrain.batch=63")  # parts of 31 and 32
    dataset = prepared(config, tmp_path)
    trained(config, RunFolder.at(tmp_path / "one"), dataset)
    task = task_of(config, RunFolder.at(tmp_path / "two"), dataset)
    torch.multiprocessing.spawn(one_of_two, (task, free_port()), nprocs=2)  # pyright: ignore[reportPrivateImportUsage]
    single, shared = (
        load_file(tmp_path / name / FOLDER / "trajectory-00000" / "epoch-00004.safetensors") for name in ("one", "two")
    )
    moved = load_file(tmp_path / "one" / FOLDER / "trajectory-00000" / "epoch-00000.safetensors")
    for name, value in single.items():
        apart, far = (shared[name] - value).norm(), (moved[name] - value).norm()
        assert apart < 0.02 * far, name
