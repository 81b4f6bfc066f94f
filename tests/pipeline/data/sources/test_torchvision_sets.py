"""torchvision's data sets: classes, counts and order, and messages for what is refused."""

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.config.run_config import Data
from pipeline.data.sources import open_source, torchvision_sets
from pipeline.errors import UserError
from tests.pipeline.support.images import number_of, picture
from tests.pipeline.support.sources import index_of, refusal


def write_mnist(root: Path, counts: dict[str, int] | None = None) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """MNIST's own files of a few made-up images; returns pixels and labels by split."""
    splits: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for split, prefix in (("train", "train"), ("test", "t10k")):
        count = (counts or {"train": 20, "test": 10})[split]
        images = np.stack([picture(number_of(split, 0, i), 28, 28, 1) for i in range(count)])
        labels = (np.arange(count) % 10).astype(np.uint8)
        for name, kind, array in (("images-idx3", 3, images), ("labels-idx1", 1, labels)):
            content = struct.pack(">HBB", 0, 8, kind) + struct.pack(f">{kind}I", *array.shape) + array.tobytes()
            (raw / f"{prefix}-{name}-ubyte").write_bytes(content)
            (raw / f"{prefix}-{name}-ubyte.gz").write_bytes(gzip.compress(content))
        splits[split] = images, labels
    return splits


def test_mnist(tmp_path: Path) -> None:
    splits = write_mnist(tmp_path)
    index = index_of("torchvision", tmp_path, name="MNIST")
    assert len(index.class_names) == 10
    assert index.class_names[3] == "3 - three"
    assert index.counts == {"train": (2,) * 10, "test": (1,) * 10}
    items = list(open_source(Data(source="torchvision", name="MNIST", path=str(tmp_path))).read("train", [4, 1]))
    assert [item.label for item in items] == [1, 4, 1, 4]
    for item, i in zip(items, (1, 4, 11, 14), strict=True):
        np.testing.assert_array_equal(item.content, splits["train"][0][i])
        assert item.path == f"MNIST/train[{i}]"


@pytest.mark.parametrize("name", ["MNIST", "FashionMNIST", "SVHN", "CIFAR10", "CIFAR100"])
def test_missing_root_says_how_to_download(tmp_path: Path, name: str) -> None:
    message = refusal("torchvision", tmp_path / "absent", name=name)
    assert str(tmp_path / "absent") in message
    assert name in message
    assert "data.download=true" in message


def test_damaged_mnist(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    file = tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:1000])
    assert "damaged" in refusal("torchvision", tmp_path, name="MNIST")


@pytest.mark.parametrize(("name", "near"), [("CIFAR", "CIFAR10"), ("mnist", "MNIST"), (None, "allowed")])
def test_unknown_torchvision_name(tmp_path: Path, name: str | None, near: str) -> None:
    assert near in refusal("torchvision", tmp_path, name=name)


def test_torchvision_is_not_read_from_a_bucket(bucket: str) -> None:
    with pytest.raises(UserError, match="torchvision reads local folders only"):
        open_source(Data(source="torchvision", name="MNIST", path=f"{bucket}/a"))


@pytest.mark.parametrize(
    "change",
    [
        lambda data: b"",
        lambda data: data[:3],
        lambda data: b"\0\0\x07\1" + data[4:],
        lambda data: b"\0\0\x08\xff" + data[4:],
        lambda data: data[:4] + b"\x7f\xff\xff\xff" + data[8:],
        lambda data: data[:8] + b"\x0a" * (len(data) - 8),
    ],
    ids=["empty", "short", "type", "axes", "count", "labels"],
)
def test_labels_of_mnist_that_torchvision_does_not_check(tmp_path: Path, change: Callable[[bytes], bytes]) -> None:
    write_mnist(tmp_path)
    file = tmp_path / "MNIST" / "raw" / "train-labels-idx1-ubyte"
    file.write_bytes(change(file.read_bytes()))
    assert str(tmp_path) in refusal("torchvision", tmp_path, name="MNIST")


def test_old_files_of_torchvision_are_checked(tmp_path: Path) -> None:
    folder = tmp_path / "MNIST" / "processed"
    folder.mkdir(parents=True)
    images = torch.zeros(20, 28, 28, dtype=torch.uint8)
    for name in ("training.pt", "test.pt"):
        torch.save((images, torch.arange(20) % 10), folder / name)
    assert index_of("torchvision", tmp_path, name="MNIST").counts["train"] == (2,) * 10
    torchvision_sets._load.cache_clear()
    torch.save((torch.zeros(1, dtype=torch.uint8).expand(10**9, 28, 28), images), folder / "training.pt")
    assert "larger than its storage" in refusal("torchvision", tmp_path, name="MNIST")
