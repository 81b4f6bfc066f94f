"""Stored networks: their weights, which images they were trained on, and messages for damaged ones."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save

from m3d import accuracy
from pipeline.data.prepared_dataset import PreparedDataset
from pipeline.errors import UserError
from pipeline.formats.run_folder import RunFolder
from pipeline.pretrain.reader import load_snapshot, read_experts, teacher_network, trained_network
from pipeline.storage import sha256
from pipeline.storage.documents import sealed
from tests.pipeline.support.pretraining import (
    FOLDER,
    config_of,
    trained,
)
from tests.pipeline.support.runs import prepared, small_config


def test_snapshots_are_weights_of_a_network_that_has_learned(tmp_path: Path) -> None:
    config = config_of("pretrain.epochs=12")
    dataset = prepared(config, tmp_path)
    manifest = trained(config, RunFolder.at(tmp_path), dataset)
    last = load_file(tmp_path / FOLDER / "trajectory-00000" / "epoch-00012.safetensors")
    network = teacher_network(RunFolder.at(tmp_path), "convnet1", dataset)
    assert network is not None
    assert not network.training
    assert set(last) == set(network.state_dict())
    assert all(torch.equal(value, last[name]) for name, value in network.state_dict().items())
    scores = [accuracy(trained_network(RunFolder.at(tmp_path), manifest, epoch=n), dataset.test_set()) for n in (0, 12)]
    assert scores[0] < 60
    assert scores[1] > 85


def test_features_come_only_from_a_network_of_these_images(tmp_path: Path) -> None:
    config = config_of()
    dataset = prepared(config, tmp_path)
    assert teacher_network(RunFolder.at(tmp_path), "convnet1", dataset) is None
    trained(config, RunFolder.at(tmp_path), dataset)
    assert teacher_network(RunFolder.at(tmp_path), "convnet2", dataset) is None
    held_out = PreparedDataset(dataset.folder, small_config("data.validation_fraction=0.25").data)
    assert teacher_network(RunFolder.at(tmp_path), "convnet1", held_out) is None  # it has seen what is held out here
    another = prepared(config_of("data.classes=4,5,6,7"), tmp_path)
    assert teacher_network(RunFolder.at(tmp_path), "convnet1", another) is None
    network = teacher_network(
        RunFolder.at(tmp_path), "convnet1", PreparedDataset(dataset.folder, small_config("data.split_seed=3").data)
    )
    assert network is not None
    assert network.features(torch.zeros(2, 1, 8, 8)).shape == (2, network.feature_count)


def test_damaged_and_missing_networks_are_refused(tmp_path: Path) -> None:
    config = config_of()
    dataset = prepared(config, tmp_path)
    manifest = trained(config, RunFolder.at(tmp_path), dataset)
    entry = manifest["trajectories"][0]["snapshots"][-1]
    with pytest.raises(UserError, match="has no snapshot after 2 epochs; it has 0, 3, 4"):
        trained_network(RunFolder.at(tmp_path), manifest, epoch=2)
    with pytest.raises(UserError, match="holds no trajectory 1; it has 0"):
        trained_network(RunFolder.at(tmp_path), manifest, seed=1)
    path = tmp_path / FOLDER / entry["file"]
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(UserError, match="the file is damaged"):
        teacher_network(RunFolder.at(tmp_path), "convnet1", dataset)
    path.unlink()
    with pytest.raises(UserError, match="is gone"):
        load_snapshot(RunFolder.at(tmp_path), "convnet1", entry)
    place = tmp_path / FOLDER / "manifest.json"
    place.write_text(place.read_text().replace('"epoch": 3', '"epoch": 2'))
    with pytest.raises(UserError, match=r"manifest\.json"):
        teacher_network(RunFolder.at(tmp_path), "convnet1", dataset)


def test_by_url(tmp_path: Path, memory: None) -> None:
    config = config_of("pretrain.epochs=2")
    dataset = prepared(config, tmp_path)
    folder = RunFolder.at(f"memory://{tmp_path.name}")
    trained(config, folder, dataset)
    assert teacher_network(folder, "convnet1", dataset) is not None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape": [1, 2**40, 2**40]}, "shape cannot be right"),
        ({"shape": [2, 8, 8]}, "shape cannot be right"),
        ({"architecture": "convnet2"}, "architecture cannot be right"),
        ({"classes": []}, "classes cannot be right"),
    ],
)
def test_impossible_manifests_are_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    config = config_of("pretrain.epochs=1")
    trained(config, RunFolder.at(tmp_path), prepared(config, tmp_path))
    place = tmp_path / FOLDER / "manifest.json"
    place.write_text(json.dumps(sealed({**json.loads(place.read_text()), **change})))
    with pytest.raises(UserError, match=message):
        read_experts(RunFolder.at(tmp_path), "convnet1")


@pytest.mark.parametrize("content", [b"", b"\xff" * 100, save({"weight": torch.zeros(3)})])
def test_snapshots_of_another_kind_are_refused(tmp_path: Path, content: bytes) -> None:
    config = config_of("pretrain.epochs=1")
    home = RunFolder.at(tmp_path)
    manifest = trained(config, home, prepared(config, tmp_path))
    entry = manifest["trajectories"][0]["snapshots"][-1]
    (tmp_path / FOLDER / entry["file"]).write_bytes(content)
    entry["sha256"] = sha256(content)
    with pytest.raises(UserError, match=r"is not a file of tensors|is of another network"):
        trained_network(home, manifest)
