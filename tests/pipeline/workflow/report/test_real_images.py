"""Real images for the page: from class shards that are there, and no more than fit."""

from pathlib import Path

import pytest
import torch

from pipeline.workflow.report import real_images as module
from pipeline.workflow.report.real_images import real_sample
from tests.pipeline.support.runs import prepared, small_config

CLASSES = ["0", "1", "2", "3"]


def test_some_images_of_every_class_are_chosen_the_same_way_every_time(tmp_path: Path) -> None:
    dataset = prepared(small_config(), tmp_path)
    first, second = (real_sample(dataset, "", classes=CLASSES, seed=0) for _ in range(2))
    other = real_sample(dataset, "", classes=CLASSES, seed=1)
    assert first.note == ""
    assert [len(images) for images in first.by_label.values()] == [60] * 4
    assert all(torch.equal(first.by_label[label], second.by_label[label]) for label in range(4))
    assert not torch.equal(first.by_label[0], other.by_label[0])
    rows = {image.numpy().tobytes() for image in dataset.train(2)}
    assert all(image.numpy().tobytes() in rows for image in first.by_label[2])


def test_of_large_data_the_first_classes_are_read_and_few_images_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = prepared(small_config(), tmp_path)
    monkeypatch.setattr(module, "MOST_BYTES", dataset.train_bytes([0, 1]))
    monkeypatch.setattr(module, "KEPT_BYTES", 4 * 64 * 12)
    sample = real_sample(dataset, "", classes=CLASSES, seed=0)
    assert [len(images) for images in sample.by_label.values()] == [12, 12]
    assert sample.note.startswith("Real images of the first 2 classes are shown")


def test_missing_other_and_damaged_shards_are_explained(tmp_path: Path) -> None:
    assert real_sample(None, "They are gone.", classes=CLASSES, seed=0).note == "They are gone."
    dataset = prepared(small_config(), tmp_path)
    assert "other classes" in real_sample(dataset, "", classes=["a"], seed=0).note
    path = Path(dataset.folder) / dataset.classes[1]["train"]["file"]
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    sample = real_sample(dataset, "", classes=CLASSES, seed=0)
    assert list(sample.by_label) == [0]
    assert "its checksum is not the manifest's" in sample.note
    assert f"…/{path.name}" in sample.note
    assert str(path.parent) not in sample.note  # the page is shared
