"""The training sets that are compared."""

import json
from pathlib import Path

import pytest
import torch

from m3d import decode, moments, standardise
from pipeline import storage
from pipeline.config.parsing import with_settings
from pipeline.data.prepared_dataset import PreparedDataset
from pipeline.errors import UserError
from pipeline.evaluate.training_sets import set_of_run, training_set
from pipeline.formats.run_folder import RunFolder
from pipeline.storage.documents import sealed
from tests.pipeline.evaluate.test_stage import condensed_run
from tests.pipeline.support.runs import condensed_images, prepared, small_config

NOWHERE = RunFolder("")
"""For sets that need no folder of a run."""


def test_condensed_is_the_committed_set_decoded_and_normalised(tmp_path: Path) -> None:
    config = small_config()
    dataset = condensed_run(config, tmp_path)
    images, labels = training_set("condensed", config, RunFolder.at(tmp_path), dataset, seed=0)
    stored = condensed_images(tmp_path)
    mean, std = dataset.moments
    expected = standardise(decode(stored[:, None], 2).flatten(0, 1), mean, std)
    torch.testing.assert_close(images, expected)
    assert labels.tolist() == [label for label in range(4) for _ in range(4)]


def test_a_condensed_set_keeps_its_own_moments(tmp_path: Path) -> None:
    config = small_config()
    dataset = condensed_run(config, tmp_path / "a")
    path = tmp_path / "a" / "condensed" / "manifest.json"
    other = {**json.loads(path.read_text()), "mean": [0.5], "std": [0.25]}
    storage.write_json(str(path), sealed({key: value for key, value in other.items() if key != "checksum"}))
    own = set_of_run("condensed", config, RunFolder.at(tmp_path / "a"), dataset.folder, 0)
    assert (own.mean, own.std) == ((0.5,), (0.25,))
    expected = (condensed_images(tmp_path / "a").mean() - 0.5) / 0.25
    assert float(own.images.mean()) == pytest.approx(float(expected), abs=0.01)
    random = set_of_run("random", config, RunFolder.at(tmp_path / "a"), dataset.folder, 0)
    assert (random.mean, random.std) == dataset.moments


def test_random_is_real_training_images_drawn_again_for_each_seed(tmp_path: Path) -> None:
    config = small_config("condense.images_per_class=3")
    dataset = prepared(config, tmp_path)
    first, labels = training_set("random", config, NOWHERE, dataset, seed=0)
    again, _ = training_set("random", config, NOWHERE, dataset, seed=0)
    other, _ = training_set("random", config, NOWHERE, dataset, seed=1)
    assert labels.tolist() == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    mean, std = dataset.moments
    pool = standardise(dataset.train(1).float() / 255, mean, std)
    assert all(any(torch.equal(image, real) for real in pool) for image in first[3:6])


def test_mosaic_is_where_the_condensation_starts(tmp_path: Path) -> None:
    config = small_config(iterations=1, learning_rate=1e-12)
    dataset = condensed_run(config, tmp_path)
    start, _ = training_set("mosaic", config, RunFolder.at(tmp_path), dataset, seed=0)
    condensed, _ = training_set("condensed", config, RunFolder.at(tmp_path), dataset, seed=0)
    torch.testing.assert_close(start, condensed, rtol=1e-4, atol=1e-4)


def test_moments_of_the_dataset_are_those_of_all_training_pixels(tmp_path: Path) -> None:
    dataset = prepared(small_config(), tmp_path)
    mean, std = moments(torch.cat([dataset.train(label) for label in range(4)]))
    assert dataset.moments[0] == pytest.approx(mean)
    assert dataset.moments[1] == pytest.approx(std)


def test_validation_images_are_held_out_of_training(tmp_path: Path) -> None:
    config = small_config("data.validation_fraction=0.25", "evaluate.on=validation")
    dataset = prepared(config, tmp_path)
    validation = dataset.test_set("validation")
    everything = PreparedDataset(dataset.folder, small_config().data)
    assert len(validation.labels) + sum(len(dataset.train(label)) for label in range(4)) == sum(
        len(everything.train(label)) for label in range(4)
    )
    assert len(validation.labels) == sum(round(0.25 * len(everything.train(label))) for label in range(4))


def test_too_few_real_images_are_refused(tmp_path: Path) -> None:
    config = small_config()
    dataset = condensed_run(config, tmp_path)
    many = with_settings(config, ["condense.images_per_class=100000"])
    with pytest.raises(UserError, match=r"training images, needed 100000"):
        training_set("random", many, RunFolder.at(tmp_path), dataset, 0)
