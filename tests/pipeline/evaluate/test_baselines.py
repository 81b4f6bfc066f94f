"""Herding, k-center and the class mean against slow definitions, and the network by whose features they select."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from m3d import Train, standardise
from m3d.encoders import build
from m3d.seeding import generator
from pipeline.config.run_config import RunConfig
from pipeline.errors import UserError
from pipeline.evaluate import feature_network
from pipeline.evaluate.baselines import class_mean, features_of, herding, k_center, selected_rows
from pipeline.evaluate.training_sets import training_set
from pipeline.formats.run_folder import RunFolder
from tests.pipeline.support.runs import prepared, small_config

CONFIG = small_config("condense.images_per_class=3")


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_network, "SCHEDULE", Train(epochs=1, batch=32))


def points(count: int = 30, width: int = 4) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(3))


def test_herding_follows_the_mean() -> None:
    features = points()
    selected: list[int] = []
    for _ in range(6):
        best, nearest = -1, np.inf
        for row in range(len(features)):
            if row in selected:
                continue
            gap = float((features[[*selected, row]].mean(0) - features.mean(0)).norm())
            best, nearest = (row, gap) if gap < nearest else (best, nearest)
        selected.append(best)
    assert herding(features, 6).tolist() == selected
    assert sorted(herding(features, 30).tolist()) == list(range(30))


def test_k_center_goes_to_the_farthest() -> None:
    features = points()
    selected = [int((features - features.mean(0)).norm(dim=1).argmin())]
    while len(selected) < 6:
        gaps = [
            min(float((features[row] - features[other]).norm()) for other in selected) for row in range(len(features))
        ]
        selected.append(int(np.argmax(gaps)))
    assert k_center(features, 6).tolist() == selected
    assert sorted(k_center(features, 30).tolist()) == list(range(30))


def test_k_center_takes_equal_images_once_each() -> None:
    assert sorted(k_center(torch.ones(4, 2), 4).tolist()) == [0, 1, 2, 3]


def test_class_mean_is_the_mean_repeated() -> None:
    images = torch.randint(0, 256, (7, 3, 4, 4), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    repeated = class_mean(images, 2)
    assert repeated.shape == (2, 3, 4, 4)
    torch.testing.assert_close(repeated[0], images.float().mean(0))
    assert torch.equal(repeated[0], repeated[1])


def test_features_of_blocks_are_those_of_all_normalised_images() -> None:
    network = build("convnet2", channels=1, image_size=8, classes=4, generator=generator(0, "x"), width=8).eval()
    images = torch.randint(0, 256, (9, 1, 8, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    with torch.no_grad():
        expected = network.features(standardise(images.float() / 255, (0.3,), (0.2,)))
    torch.testing.assert_close(features_of(network, images, (0.3,), (0.2,)), expected, rtol=0.05, atol=0.05)


def test_sets_of_real_images(tmp_path: Path) -> None:
    dataset = prepared(CONFIG, tmp_path)
    mean, std = dataset.moments
    for name in ("herding", "k_center"):
        rows = selected_rows(name, CONFIG, RunFolder.at(tmp_path), dataset)
        assert [len(set(selected.tolist())) for selected in rows] == [3] * 4
        images, labels = training_set(name, CONFIG, RunFolder.at(tmp_path), dataset, seed=5)
        assert labels.tolist() == [label for label in range(4) for _ in range(3)]
        torch.testing.assert_close(images[3:6], standardise(dataset.train(1)[rows[1]].float() / 255, mean, std))
    images, labels = training_set("class_mean", CONFIG, RunFolder.at(tmp_path), dataset, seed=5)
    expected = standardise(dataset.train(2).float().mean(0) / 255, mean, std)
    torch.testing.assert_close(images[6], expected)
    assert labels.tolist() == [label for label in range(4) for _ in range(3)]
    with pytest.raises(UserError, match="pretrain"):
        training_set("whole", CONFIG, RunFolder.at(tmp_path), dataset, seed=0)


def test_a_selection_is_stored_and_made_again_for_other_images_per_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = prepared(CONFIG, tmp_path)
    first = selected_rows("herding", CONFIG, RunFolder.at(tmp_path), dataset)
    file = tmp_path / "baselines" / "herding.json"
    before = file.stat().st_mtime_ns
    monkeypatch.setattr("pipeline.evaluate.baselines.features_of", None)  # the stored selection needs no features
    assert all(map(torch.equal, selected_rows("herding", CONFIG, RunFolder.at(tmp_path), dataset), first))
    assert file.stat().st_mtime_ns == before
    monkeypatch.undo()
    monkeypatch.setattr(feature_network, "SCHEDULE", Train(epochs=1, batch=32))
    more = selected_rows("herding", small_config("condense.images_per_class=4"), RunFolder.at(tmp_path), dataset)
    assert [len(selected) for selected in more] == [4] * 4
    assert [selected[:3].tolist() for selected in more] == [selected.tolist() for selected in first]  # greedy


def trainings(config: RunConfig, out: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Number of trainings in one call."""
    calls, real = [], feature_network._train
    monkeypatch.setattr(feature_network, "_train", lambda *arguments: (calls.append(1), real(*arguments))[1])
    feature_network.trained(config, RunFolder.at(out), prepared(config, out))
    monkeypatch.setattr(feature_network, "_train", real)
    return len(calls)


def test_the_feature_network_is_trained_once_for_the_same_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert trainings(CONFIG, tmp_path, monkeypatch) == 1
    assert trainings(CONFIG, tmp_path, monkeypatch) == 0
    assert trainings(small_config("data.image_size=12"), tmp_path, monkeypatch) == 1  # other class shards
    assert trainings(small_config("encoder.name=convnet1", "data.image_size=12"), tmp_path, monkeypatch) == 1
    file = tmp_path / "feature-network.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    assert trainings(small_config("encoder.name=convnet1", "data.image_size=12"), tmp_path, monkeypatch) == 1


def test_the_feature_network_learns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_network, "SCHEDULE", Train(epochs=8, batch=32))
    dataset = prepared(CONFIG, tmp_path)
    network = feature_network.trained(CONFIG, RunFolder.at(tmp_path), dataset)
    test = dataset.test_set()
    with torch.no_grad():
        predicted = network(standardise(test.images.float() / 255, test.mean, test.std)).argmax(1)
    assert float((predicted == test.labels).float().mean()) > 0.8


def test_a_damaged_selection_is_made_again(tmp_path: Path) -> None:
    dataset = prepared(CONFIG, tmp_path)
    first = selected_rows("k_center", CONFIG, RunFolder.at(tmp_path), dataset)
    file = tmp_path / "baselines" / "k_center.json"
    document = json.loads(file.read_text())
    document["rows"][0] = [0, 0, 0]
    file.write_text(json.dumps(document))
    assert all(map(torch.equal, selected_rows("k_center", CONFIG, RunFolder.at(tmp_path), dataset), first))
