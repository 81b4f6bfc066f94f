"""Trajectories and snapshots: trained by the plain function that every worker runs, without Ray."""

import socket
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch.nn.parallel import DistributedDataParallel

from m3d import accuracy
from m3d.training.whole_set import Part
from pipeline.config.run_config import RunConfig
from pipeline.data.prepared_dataset import PreparedDataset
from pipeline.errors import UserError
from pipeline.pretrain import training
from pipeline.pretrain.reader import ExpertsManifest, feature_network, load_snapshot, read_experts, trained_network
from pipeline.pretrain.store import ExpertStore, about, identity_of, refuse_others, settings_of
from pipeline.pretrain.training import ExpertTask, Worker, train_trajectories
from tests.pipeline.support.runs import prepared, small_config

SMALL = (
    *("pretrain.architecture=convnet1", "pretrain.epochs=4", "pretrain.snapshot_every=3", "pretrain.batch=64"),
    *("pretrain.precision=float32", "pretrain.augment=crop"),
)
FOLDER = "experts/convnet1"


class Stopped(Exception):
    """In place of a death."""


def config_of(*settings: str) -> RunConfig:
    return small_config(*SMALL, *settings)


def task_of(config: RunConfig, out: str, cache: PreparedDataset) -> ExpertTask:
    identity = identity_of(settings_of(config, cache))
    return ExpertTask(config=config, out=out, cache=cache.folder, identity=identity, threads=1)


def trained(config: RunConfig, out: str, cache: PreparedDataset, **worker: Any) -> ExpertsManifest:
    task = task_of(config, out, cache)
    train_trajectories(task, Worker(**worker))
    experts = ExpertStore(out, config.pretrain.architecture, task.identity)
    return experts.publish(config.pretrain.trajectories, about(config, cache, settings_of(config, cache)))


def snapshots(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((out / FOLDER / "trajectory-00000").iterdir())}


def test_a_trajectory_has_the_first_the_last_and_every_third_epoch(tmp_path: Path) -> None:
    config = config_of("pretrain.trajectories=2")
    cache = prepared(config, tmp_path)
    events: list[dict[str, Any]] = []
    manifest = trained(config, str(tmp_path), cache, tell=events.append)
    assert [record["seed"] for record in manifest["trajectories"]] == [0, 1]
    for seed, record in enumerate(manifest["trajectories"]):
        assert [entry["epoch"] for entry in record["snapshots"]] == [0, 3, 4]
        assert len(record["losses"]) == 4
        assert record["losses"][-1] < 0.7 * record["losses"][0]
        assert all(entry["file"].startswith(f"trajectory-{seed:05d}/") for entry in record["snapshots"])
    assert not (tmp_path / FOLDER / "checkpoint.safetensors").exists()
    assert [event["event"] for event in events if event["event"] != "progress"][:3] == ["worker", "begin", "epoch"]
    assert read_experts(str(tmp_path), "convnet1") == manifest


def test_snapshots_are_weights_of_a_network_that_has_learned(tmp_path: Path) -> None:
    config = config_of("pretrain.epochs=12")
    cache = prepared(config, tmp_path)
    manifest = trained(config, str(tmp_path), cache)
    last = load_file(tmp_path / FOLDER / "trajectory-00000" / "epoch-00012.safetensors")
    network = feature_network(str(tmp_path), "convnet1", cache)
    assert network is not None
    assert not network.training
    assert set(last) == set(network.state_dict())
    assert all(torch.equal(value, last[name]) for name, value in network.state_dict().items())
    scores = [accuracy(trained_network(str(tmp_path), manifest, epoch=n), cache.test_set()) for n in (0, 12)]
    assert scores[0] < 60
    assert scores[1] > 85


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_what_is_stopped_goes_on_to_the_same_bytes(tmp_path: Path, stop: int) -> None:
    config = config_of()
    cache = prepared(config, tmp_path)
    trained(config, str(tmp_path / "whole"), cache)

    def report(metrics: dict[str, Any]) -> None:
        if metrics["epoch"] == stop:
            raise Stopped

    out = tmp_path / "stopped"
    with pytest.raises(Stopped):
        trained(config, str(out), cache, report=report)
    assert (out / FOLDER / "checkpoint.safetensors").exists()
    begun: list[dict[str, Any]] = []
    trained(config, str(out), cache, tell=begun.append)
    assert [event["epoch"] for event in begun if event["event"] == "begin"] == [stop]
    assert snapshots(out) == snapshots(tmp_path / "whole")


def test_a_training_goes_on_in_the_precision_in_which_it_began(tmp_path: Path) -> None:
    wide = config_of("pretrain.precision=auto", "pretrain.trajectories=2")
    cache = prepared(wide, tmp_path)

    def report(metrics: dict[str, Any]) -> None:
        if metrics["epoch"] == 1:
            raise Stopped

    real = training.WholeSetTrainer
    with pytest.MonkeyPatch.context() as on_another_machine:
        on_another_machine.setattr(
            training, "WholeSetTrainer", lambda *given, **named: real(*given, **{**named, "precision": "bfloat16"})
        )
        with pytest.raises(Stopped):
            trained(wide, str(tmp_path), cache, report=report)
    with pytest.MonkeyPatch.context() as here:
        here.setattr("m3d.backend.precision.cpu_has_amx", lambda: False)
        manifest = trained(wide, str(tmp_path), cache)
        assert [record["precision"] for record in manifest["trajectories"]] == ["bfloat16", "bfloat16"]
        more = trained(config_of("pretrain.precision=auto", "pretrain.trajectories=3"), str(tmp_path), cache)
    assert more["trajectories"][2]["precision"] == "float32"


def test_a_damaged_checkpoint_costs_its_work_only(tmp_path: Path) -> None:
    config = config_of()
    cache = prepared(config, tmp_path)

    def report(metrics: dict[str, Any]) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        trained(config, str(tmp_path), cache, report=report)
    path = tmp_path / FOLDER / "checkpoint.safetensors"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(bytes(data))
    begun: list[dict[str, Any]] = []
    trained(config, str(tmp_path), cache, tell=begun.append)
    assert [event["epoch"] for event in begun if event["event"] == "begin"] == [0]


def test_more_trajectories_keep_the_ones_there_are(tmp_path: Path) -> None:
    one, two = config_of(), config_of("pretrain.trajectories=2", "pretrain.report_every=2")
    cache = prepared(one, tmp_path)
    first = trained(one, str(tmp_path), cache)
    begun: list[dict[str, Any]] = []
    both = trained(two, str(tmp_path), cache, tell=begun.append)
    assert [event["seed"] for event in begun if event["event"] == "begin"] == [1]
    assert both["trajectories"][0] == first["trajectories"][0]
    again = trained(one, str(tmp_path), cache)
    assert len(again["trajectories"]) == 2


def test_other_settings_are_named(tmp_path: Path) -> None:
    config = config_of()
    cache = prepared(config, tmp_path)
    manifest = trained(config, str(tmp_path), cache)
    other = config_of("pretrain.batch=32", "pretrain.workers=2", "pretrain.trajectories=5")
    with pytest.raises(UserError, match=r"differing in pretrain\.batch; "):
        refuse_others(str(tmp_path), manifest, settings_of(other, cache), "convnet1")
    refuse_others(str(tmp_path), manifest, settings_of(config, cache), "convnet1")
    begun = tmp_path / "begun"
    refuse_others(str(begun), None, settings_of(other, cache), "convnet1")
    settings = settings_of(config, cache)
    store = ExpertStore(str(begun), "convnet1", identity_of(settings))
    assert store.commit is None
    store.claim(settings, "a, b")  # killed before the manifest
    assert store.commit == "a, b"
    refuse_others(str(begun), None, settings, "convnet1")
    with pytest.raises(UserError, match=r"differing in pretrain\.batch; "):
        refuse_others(str(begun), None, settings_of(other, cache), "convnet1")


def test_features_only_of_a_network_of_these_images(tmp_path: Path) -> None:
    config = config_of()
    cache = prepared(config, tmp_path)
    assert feature_network(str(tmp_path), "convnet1", cache) is None
    trained(config, str(tmp_path), cache)
    assert feature_network(str(tmp_path), "convnet2", cache) is None
    held_out = PreparedDataset(cache.folder, small_config("data.validation_fraction=0.25").data)
    assert feature_network(str(tmp_path), "convnet1", held_out) is None  # it has seen what is held out here
    another = prepared(config_of("data.classes=4,5,6,7"), tmp_path)
    assert feature_network(str(tmp_path), "convnet1", another) is None
    network = feature_network(
        str(tmp_path), "convnet1", PreparedDataset(cache.folder, small_config("data.split_seed=3").data)
    )
    assert network is not None
    assert network.features(torch.zeros(2, 1, 8, 8)).shape == (2, network.feature_count)


def test_what_is_damaged_is_said(tmp_path: Path) -> None:
    config = config_of()
    cache = prepared(config, tmp_path)
    manifest = trained(config, str(tmp_path), cache)
    entry = manifest["trajectories"][0]["snapshots"][-1]
    with pytest.raises(UserError, match="has no snapshot after 2 epochs; it has 0, 3, 4"):
        trained_network(str(tmp_path), manifest, epoch=2)
    with pytest.raises(UserError, match="holds no trajectory 1; it has 0"):
        trained_network(str(tmp_path), manifest, seed=1)
    path = tmp_path / FOLDER / entry["file"]
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(UserError, match="the file is damaged"):
        feature_network(str(tmp_path), "convnet1", cache)
    path.unlink()
    with pytest.raises(UserError, match="is gone"):
        load_snapshot(str(tmp_path), "convnet1", entry)
    place = tmp_path / FOLDER / "manifest.json"
    place.write_text(place.read_text().replace('"epoch": 3', '"epoch": 2'))
    with pytest.raises(UserError, match=r"manifest\.json"):
        feature_network(str(tmp_path), "convnet1", cache)


def test_a_loss_that_is_not_finite_is_said(tmp_path: Path) -> None:
    config = config_of("pretrain.learning_rate=1e30", "pretrain.warmup=0")
    cache = prepared(config, tmp_path)
    with pytest.raises(UserError, match=r"epoch 1 \(seed 0\) is not finite; lower pretrain\.learning_rate"):
        trained(config, str(tmp_path), cache)


def test_by_url(tmp_path: Path) -> None:
    config = config_of("pretrain.epochs=2")
    cache = prepared(config, tmp_path)
    out = f"memory://{tmp_path.name}"
    trained(config, out, cache)
    assert feature_network(out, "convnet1", cache) is not None


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def one_of_two(rank: int, task: ExpertTask, port: int) -> None:
    """A worker of two, joined by gloo alone."""
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    try:
        train_trajectories(task, Worker(part=Part(rank=rank, world=2), wrap=DistributedDataParallel))
    finally:
        dist.destroy_process_group()


def test_two_workers_compute_what_one_does(tmp_path: Path) -> None:
    config = config_of("pretrain.batch=63")  # parts of 31 and 32
    cache = prepared(config, tmp_path)
    trained(config, str(tmp_path / "one"), cache)
    task = task_of(config, str(tmp_path / "two"), cache)
    torch.multiprocessing.spawn(one_of_two, (task, free_port()), nprocs=2)  # pyright: ignore[reportPrivateImportUsage]
    one, two = (
        load_file(tmp_path / name / FOLDER / "trajectory-00000" / "epoch-00004.safetensors") for name in ("one", "two")
    )
    moved = load_file(tmp_path / "one" / FOLDER / "trajectory-00000" / "epoch-00000.safetensors")
    for name, value in one.items():
        apart, far = (two[name] - value).norm(), (moved[name] - value).norm()
        assert apart < 0.02 * far, name
