"""Every export is read by those it is meant for: their own packages, or their published code."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torchvision.datasets import ImageFolder
from torchvision.transforms.functional import pil_to_tensor

from m3d import standardise
from pipeline.formats.condensed_reader import load_condensed
from tests.pipeline.support.condensed_sets import MEAN, STD, write_set
from tests.pipeline.support.exports import exported, rounded, stored, views

NAMES = ["ant", "bee", "cat"]
LABELS = [0] * 8 + [1] * 8 + [2] * 8
"""Labels of the views: two stored images per class, of four tiles each."""


def loaded(path: Path, tmp_path: Path, **options: Any) -> Any:
    """A data set of Hugging Face, from a local folder."""
    import datasets

    return datasets.load_dataset(str(path), split="train", cache_dir=str(tmp_path / "cache"), **options)


def test_hub_is_read_by_datasets(condensed: Path, tmp_path: Path) -> None:
    import datasets

    read = loaded(exported(condensed, "hub"), tmp_path)
    assert read.features == {"image": datasets.Image(), "label": datasets.ClassLabel(names=NAMES)}
    assert read["label"] == LABELS
    images = torch.stack([pil_to_tensor(image) for image in read["image"]])
    assert torch.equal(images, rounded(views(condensed)))
    batch = read.with_format("torch")[:4]
    assert batch["image"].shape == (4, 3, 8, 8)
    assert batch["label"].tolist() == [0] * 4


def test_hub_of_several_files_is_one_split(condensed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.exports.formats.hub.FILE_BYTES", 5 * 3 * 8 * 8)
    out = exported(condensed, "hub")
    files = sorted(path.name for path in (out / "data").iterdir())
    assert files == [f"train-{number:05d}-of-00005.parquet" for number in range(5)]
    assert loaded(out, tmp_path)["label"] == LABELS


def test_stored_images_are_exported_by_choice(condensed: Path, tmp_path: Path) -> None:
    read = loaded(exported(condensed, "hub", views="stored"), tmp_path)
    images = torch.stack([pil_to_tensor(image) for image in read["image"]])
    assert torch.equal(images, rounded(stored(condensed)))


def test_to_hf_is_a_data_set_of_hugging_face(condensed: Path) -> None:
    import datasets

    read = load_condensed(str(condensed)).to_hf()
    assert read.features == {"image": datasets.Image(), "label": datasets.ClassLabel(names=NAMES)}
    assert read["label"] == LABELS
    assert torch.equal(torch.stack([pil_to_tensor(image) for image in read["image"]]), rounded(views(condensed)))


def test_to_hf_without_datasets(condensed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from pipeline.errors import UserError

    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match=r"pip install 'm3d-condense\[hub\]'"):
        load_condensed(str(condensed)).to_hf()


def test_imagefolder_is_read_by_torchvision(condensed: Path) -> None:
    read = ImageFolder(str(exported(condensed, "imagefolder")), transform=pil_to_tensor)
    assert read.classes == NAMES
    assert read.targets == LABELS
    assert torch.equal(torch.stack([image for image, _ in read]), rounded(views(condensed)))


def test_imagefolder_keeps_the_labels_whatever_the_names(tmp_path: Path) -> None:
    names = ("zebra", "../ant", "train")
    classes = [{"label": label, "wnid": "", "name": name} for label, name in enumerate(names)]
    read = ImageFolder(str(exported(write_set(tmp_path / "set", classes=classes), "imagefolder")))
    assert read.classes == ["00000 zebra", "00001 .._ant", "00002 train"]
    assert read.targets == LABELS


def test_imagefolder_is_read_by_datasets_as_well(condensed: Path, tmp_path: Path) -> None:
    out = exported(condensed, "imagefolder")
    read = loaded(Path("imagefolder"), tmp_path, data_dir=str(out))
    assert read.features["label"].names == NAMES
    assert read["label"] == LABELS


def test_webdataset_is_read_by_webdataset(condensed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from webdataset.compat import WebDataset

    monkeypatch.setattr("pipeline.exports.formats.webdataset.SHARD_BYTES", 10 * 3 * 8 * 8)
    out = exported(condensed, "webdataset")
    shards = sorted(str(path) for path in out.glob("*.tar"))
    assert [os.path.basename(path) for path in shards] == [f"shard-{number:06d}.tar" for number in range(3)]
    # webdataset adds the method that iterates at run time, so its types do not show it.
    samples = list(cast(Iterable[Any], WebDataset(shards, shardshuffle=False).decode("torchrgb8")))
    assert [sample["cls"] for sample in samples] == LABELS
    assert [sample["json"]["class_name"] for sample in samples] == [NAMES[label] for label in LABELS]
    assert samples[0]["__key__"] == "class00000_id00000"
    assert torch.equal(torch.stack([torch.as_tensor(sample["png"]) for sample in samples]), rounded(views(condensed)))


def test_npz_is_read_by_numpy(condensed: Path) -> None:
    with np.load(exported(condensed, "npz") / "condensed.npz") as read:
        assert read["images"].dtype == np.float32
        assert np.array_equal(read["images"], stored(condensed).numpy())
        assert read["labels"].tolist() == [0, 0, 1, 1, 2, 2]
        assert read["class_names"].tolist() == NAMES
        assert (read["mean"].tolist(), read["std"].tolist(), int(read["factor"])) == (MEAN, STD, 2)


def test_idc_is_read_as_idc_reads_it(condensed: Path) -> None:
    path = exported(condensed, "idc")
    data, target = torch.load(os.path.join(path, "data.pt"), weights_only=True)  # IDC, test.py: load_data_path
    assert torch.equal(data, stored(condensed))
    assert target.dtype == torch.int64
    assert target.tolist() == [0, 0, 1, 1, 2, 2]


def test_dc_is_read_as_dc_bench_reads_it(condensed: Path) -> None:
    (path,) = exported(condensed, "dc", name="My photos").glob("*.pt")
    assert path.name == "res_M3D_My-photos_ConvNet_8ipc.pt"
    content = torch.load(path, weights_only=True)
    images, labels = content["data"][-1]
    assert torch.allclose(images, standardise(views(condensed), tuple(MEAN), tuple(STD)))
    assert labels.tolist() == LABELS
    assert content["accs_all_exps"] == {}


def test_mtt_is_read_as_mtt_reads_it(condensed: Path) -> None:
    path = exported(condensed, "mtt")
    images = torch.load(path / "images_best.pt", weights_only=True)
    labels = torch.load(path / "labels_best.pt", weights_only=True)
    assert torch.allclose(images, standardise(views(condensed), tuple(MEAN), tuple(STD)))
    assert (labels.dtype, labels.tolist()) == (torch.int64, LABELS)


def test_ddranking_is_read_as_ddranking_reads_it(condensed: Path) -> None:
    images = torch.load(exported(condensed, "ddranking") / "images.pt", map_location="cpu", weights_only=True)
    # Its evaluator makes the labels from the order, as many of each class as ipc says.
    labels = np.array([np.ones(8) * label for label in range(3)]).reshape(-1).tolist()
    assert labels == LABELS
    assert torch.allclose(images, standardise(views(condensed), tuple(MEAN), tuple(STD)))


def test_rethinkdc_finds_its_tree(condensed: Path) -> None:
    root = str(exported(condensed, "rethinkdc") / "train")
    # rethinkdc's ImageFolderIPC lists whatever comes first in the folder, and takes the first images of every class.
    assert all(len(os.listdir(os.path.join(root, entry))) == 8 for entry in os.listdir(root))
    samples = _first_images(root, image_number=3)
    assert samples == [
        (os.path.join(root, f"{label:05d}", f"class{label:05d}_id{index:05d}.png"), label)
        for label in range(3)
        for index in range(3)
    ]
    assert ImageFolder(root).targets == LABELS


def _first_images(directory: str, image_number: int) -> list[tuple[str, int]]:
    """What rethinkdc 0.3 does in ``make_dataset`` of imagenet_ipc.py."""
    found = []
    for label, name in enumerate(sorted(entry.name for entry in os.scandir(directory) if entry.is_dir())):
        for root, _, files in sorted(os.walk(os.path.join(directory, name), followlinks=True)):
            found += [(os.path.join(root, file), label) for file in sorted(files)[:image_number]]
    return found
