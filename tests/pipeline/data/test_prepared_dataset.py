"""The reading side of class shards: memory maps, the validation split, damage."""

from pathlib import Path

import numpy as np
import pytest
import torch

from m3d.pulse import listening
from pipeline.config.run_config import Data
from pipeline.data.prepared_dataset import PreparedDataset
from pipeline.data.shard_builder import make_shards
from pipeline.data.shard_manifest import finish
from pipeline.data.shard_plan import plan_shards
from pipeline.errors import UserError
from pipeline.storage import objects
from tests.pipeline.support.images import number_of, picture


@pytest.fixture
def shards(folder: Path, tmp_path: Path) -> str:
    """The folder of finished class shards."""
    plan = plan_shards(Data(source="image_folder", path=str(folder), image_size=12), str(tmp_path / "cache"))
    make_shards(plan, range(3))
    finish(plan)
    return plan.folder


def dataset_of(shards: str, fraction: float = 0.0, seed: int = 0) -> PreparedDataset:
    """The class shards with a validation split."""
    return PreparedDataset(shards, Data(validation_fraction=fraction, split_seed=seed))


def rows(images: torch.Tensor) -> set[bytes]:
    """Every image as bytes."""
    return {image.numpy().tobytes() for image in images}


def test_images_of_a_class(shards: str) -> None:
    images = dataset_of(shards).train(1)
    assert (images.dtype, tuple(images.shape)) == (torch.uint8, (12, 3, 12, 12))
    expected = np.stack([picture(number_of("train", 1, i)).transpose(2, 0, 1) for i in range(12)])
    np.testing.assert_array_equal(images.numpy(), expected)


def test_images_are_memory_mapped(shards: str) -> None:
    images = dataset_of(shards).train(0)
    maps = [line for line in Path("/proc/self/maps").read_text().splitlines() if "/train-00000.arrow" in line]
    ranges = [[int(end, 16) for end in line.split()[0].split("-")] for line in maps]
    assert any(begin <= images.data_ptr() < end for begin, end in ranges)


def test_classes_and_moments(shards: str) -> None:
    dataset = dataset_of(shards)
    assert [(entry["label"], entry["name"]) for entry in dataset.classes] == [(0, "ant"), (1, "bee"), (2, "cat")]
    mean, std = dataset.moments
    images = torch.cat([dataset.train(label) for label in range(3)]).double() / 255
    torch.testing.assert_close(torch.tensor(mean).double(), images.mean((0, 2, 3)), rtol=1e-5, atol=0)
    torch.testing.assert_close(torch.tensor(std).double(), images.std((0, 2, 3), correction=0), rtol=1e-5, atol=0)


def test_test_set(shards: str) -> None:
    test = dataset_of(shards).test_set()
    assert test.classes == 3
    assert test.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert (test.mean, test.std) == dataset_of(shards).moments
    np.testing.assert_array_equal(test.images[5].numpy(), picture(number_of("test", 1, 1)).transpose(2, 0, 1))


@pytest.mark.parametrize(("fraction", "held_out"), [(0.0, 0), (0.25, 3), (0.5, 6), (0.03, 0)])
def test_validation_is_disjoint_from_train_and_complete(shards: str, fraction: float, held_out: int) -> None:
    dataset = dataset_of(shards, fraction)
    validation = dataset.test_set("validation")
    assert len(validation.labels) == 3 * held_out
    for label in range(3):
        train, own = dataset.train(label), validation.images[validation.labels == label]
        assert (len(train), len(own)) == (12 - held_out, held_out)
        assert not rows(train) & rows(own)
        assert rows(train) | rows(own) == rows(dataset_of(shards).train(label))


def test_validation_is_seeded_and_differs_between_classes(shards: str) -> None:
    first, same, other = (dataset_of(shards, 0.5, seed).test_set("validation").images for seed in (0, 0, 1))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    whole = dataset_of(shards)
    kept = [[rows(whole.train(k)[i : i + 1]) <= rows(first) for i in range(12)] for k in range(3)]
    assert len({tuple(each) for each in kept}) > 1


def test_held_out_images_are_not_in_the_test_split(shards: str) -> None:
    dataset = dataset_of(shards, 0.5)
    assert not rows(dataset.test_set("validation").images) & rows(dataset.test_set().images)


def test_missing_manifest(shards: str, tmp_path: Path) -> None:
    Path(shards, "manifest.json").unlink()
    for place in (shards, str(tmp_path / "absent")):
        with pytest.raises(UserError, match=r"no manifest\.json.*prepare"):
            PreparedDataset(place, Data())


def test_damaged_manifest(shards: str) -> None:
    Path(shards, "manifest.json").write_text("{")
    with pytest.raises(UserError, match="JSON"):
        PreparedDataset(shards, Data())


@pytest.mark.parametrize("keep", [0, 4, 400, -8])
def test_truncated_shard(shards: str, keep: int) -> None:
    path = Path(shards, "train-00000.arrow")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match=r"train-00000\.arrow.*same command again"):
        dataset_of(shards).train(0)
    assert len(dataset_of(shards).train(1)) == 12


def test_missing_shard(shards: str) -> None:
    Path(shards, "test-00002.arrow").unlink()
    with pytest.raises(UserError, match=r"test-00002\.arrow.*same command again"):
        dataset_of(shards).test_set()


def test_a_changed_bit(shards: str) -> None:
    path = Path(shards, "train-00000.arrow")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"train-00000\.arrow.*checksum"):
        dataset_of(shards).train(0)


def test_a_shard_in_place_of_another(shards: str) -> None:
    Path(shards, "test-00000.arrow").replace(Path(shards, "train-00000.arrow"))
    with pytest.raises(UserError, match=r"train-00000\.arrow"):
        dataset_of(shards).train(0)


def test_loading_a_shard_beats(shards: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that reads many shards, or a large one from a slow disk, is not taken for one that hangs."""
    monkeypatch.setattr(objects, "HASHED_BYTES", 1000)
    beats: list[None] = []
    with listening(lambda: beats.append(None)):
        images = dataset_of(shards).images("train", 0)
    assert len(beats) > images.numel() // 1000
