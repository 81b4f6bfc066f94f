"""Reading a condensed set: order, decoding and normalisation, and messages for what is refused."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import pipeline
from m3d import decode
from pipeline.errors import UserError
from pipeline.formats.condensed_reader import load_condensed, read_manifest
from tests.pipeline.support.condensed_sets import MEAN, STD, change_manifest, values, write_set


@pytest.mark.parametrize("inner", [".", "condensed"])
def test_load(tmp_path: Path, inner: str) -> None:
    write_set(tmp_path / inner)
    dataset = load_condensed(str(tmp_path), decode=False, normalise=False)
    assert torch.equal(dataset.images, torch.from_numpy(values().reshape(6, 3, 8, 8)))
    assert dataset.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert dataset.labels.dtype == torch.int64
    assert dataset.class_names == ["ant", "bee", "cat"]
    assert (dataset.mean, dataset.std) == (tuple(MEAN), tuple(STD))
    image, label = dataset[3]
    assert torch.equal(image, dataset.images[3])
    assert (len(dataset), label) == (6, 1)


def test_load_from_a_data_loader(tmp_path: Path) -> None:
    loader = torch.utils.data.DataLoader(load_condensed(str(write_set(tmp_path))), batch_size=5)
    assert [tuple(images.shape) for images, _ in loader] == [(5, 3, 8, 8)] * 4 + [(4, 3, 8, 8)]


def test_decode(tmp_path: Path) -> None:
    dataset = load_condensed(str(write_set(tmp_path)), normalise=False)
    assert tuple(dataset.images.shape) == (24, 3, 8, 8)
    assert dataset.labels.tolist() == [0] * 8 + [1] * 8 + [2] * 8
    expected = decode(torch.from_numpy(values()[1]), 2)
    assert sorted(map(bytes, expected.numpy())) == sorted(map(bytes, dataset.images[dataset.labels == 1].numpy()))


@pytest.mark.parametrize("decoded", [True, False])
def test_normalise(tmp_path: Path, decoded: bool) -> None:
    write_set(tmp_path)
    plain = load_condensed(str(tmp_path), decode=decoded, normalise=False)
    normal = load_condensed(str(tmp_path), decode=decoded)
    mean, std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)
    torch.testing.assert_close(normal.images, (plain.images - mean) / std)
    assert normal.images.dtype == torch.float32


@pytest.mark.parametrize("groups", [((2,), (0, 1)), ((2, 0), (1,)), ((1,), (2,), (0,)), ((2, 1, 0),)])
def test_shards_in_any_order_give_class_order(tmp_path: Path, groups: tuple[tuple[int, ...], ...]) -> None:
    dataset = load_condensed(str(write_set(tmp_path, groups)), decode=False, normalise=False)
    assert dataset.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert torch.equal(dataset.images, torch.from_numpy(values().reshape(6, 3, 8, 8)))


def test_without_a_manifest(tmp_path: Path) -> None:
    write_set(tmp_path)
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(UserError, match=r"no finished condensed set \(no manifest\.json\)"):
        load_condensed(str(tmp_path))


def test_folder_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        load_condensed(str(tmp_path / "absent"))


def test_checksum_is_off(tmp_path: Path) -> None:
    path = write_set(tmp_path) / "shard-00001.arrow"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"shard-00001\.arrow.*checksum"):
        load_condensed(str(tmp_path))


def test_missing_shard(tmp_path: Path) -> None:
    (write_set(tmp_path) / "shard-00000.arrow").unlink()
    with pytest.raises(UserError, match=r"shard-00000\.arrow.*does not exist"):
        load_condensed(str(tmp_path))


def test_rows_are_not_those_of_the_manifest(tmp_path: Path) -> None:
    change_manifest(write_set(tmp_path), lambda manifest: manifest["shards"][0].update(rows=5))
    with pytest.raises(UserError, match="has 4 rows, the manifest says 5"):
        load_condensed(str(tmp_path))


def test_a_shard_that_is_missing_in_the_manifest_or_named_twice(tmp_path: Path) -> None:
    change_manifest(write_set(tmp_path), lambda manifest: manifest["shards"].pop())
    with pytest.raises(UserError, match="does not hold 2 images of each of 3 classes"):
        load_condensed(str(tmp_path))
    change_manifest(tmp_path, lambda manifest: manifest["shards"].append(manifest["shards"][0]))
    with pytest.raises(UserError, match="does not hold 2 images of each of 3 classes"):
        load_condensed(str(tmp_path))


@pytest.mark.parametrize(
    "key", ["format_version", "shards", "classes", "images_per_class", "factor", "shape", "mean", "std"]
)
def test_manifest_that_lacks_a_key(tmp_path: Path, key: str) -> None:
    change_manifest(write_set(tmp_path), lambda manifest: manifest.pop(key))
    with pytest.raises(UserError, match=rf"manifest\.json.*\b{key}\b"):
        load_condensed(str(tmp_path))


def test_manifest_that_was_changed_by_hand(tmp_path: Path) -> None:
    path = write_set(tmp_path) / "manifest.json"
    path.write_text(path.read_text().replace("0.25", "0.26"))
    with pytest.raises(UserError, match=r"manifest\.json.*checksum"):
        load_condensed(str(tmp_path))


@pytest.mark.parametrize("content", ["", "{", "[]", "3", "null", '"text"'])
def test_manifest_of_another_kind(tmp_path: Path, content: str) -> None:
    (write_set(tmp_path) / "manifest.json").write_text(content)
    with pytest.raises(UserError, match=r"manifest\.json"):
        read_manifest(str(tmp_path))


@pytest.mark.parametrize(
    "damage",
    [{"shards": []}, {"shards": [{}]}, {"shards": [{"file": "shard-00000.arrow"}]}, {"classes": []}, {"shards": 3}],
    ids=str,
)
def test_manifest_whose_shards_are_damaged(tmp_path: Path, damage: dict[str, Any]) -> None:
    write_set(tmp_path, **damage)
    with pytest.raises(UserError) as caught:
        load_condensed(str(tmp_path))
    assert str(tmp_path) in str(caught.value)


def test_newer_format(tmp_path: Path) -> None:
    write_set(tmp_path, format_version=2)
    with pytest.raises(UserError, match=r"was written by a newer version \(format 2; this one reads 1\); update"):
        load_condensed(str(tmp_path))


def test_load_condensed_is_exported() -> None:
    assert pipeline.load_condensed is load_condensed
    assert {"load_condensed", "CondensedDataset"} <= set(pipeline.__all__)
    with pytest.raises(AttributeError, match="nothing_such"):
        pipeline.nothing_such  # noqa: B018


def test_loading_does_not_import_ray(tmp_path: Path) -> None:
    write_set(tmp_path)
    code = (
        "import sys, pipeline; held = pipeline.load_condensed(sys.argv[1]);"
        "print(len(held), sorted(m for m in sys.modules if m.split('.')[0] in ('ray', 'sklearn', 'torchvision')))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "24 []"


@pytest.mark.parametrize("shape", [[3, 2, 2], [3, 8, 9], [3, 2**13, 2**13], [3, 2**40, 2**40]])
def test_a_manifest_of_images_that_no_run_makes(tmp_path: Path, shape: list[int]) -> None:
    write_set(tmp_path, shape=shape)
    with pytest.raises(UserError, match="shape cannot be right"):
        read_manifest(str(tmp_path))


def test_the_dataset_describes_itself(tmp_path: Path) -> None:
    folder = str(write_set(tmp_path))
    dataset = load_condensed(folder)
    assert repr(dataset) == (
        "CondensedDataset(24 views of 3x8x8 normalised, 3 classes: ant, bee, cat, 2 x 2 tiles in each of 2 stored images per class)"
    )
    plain = load_condensed(folder, decode=False, normalise=False)
    assert repr(plain).startswith("CondensedDataset(6 stored images of 3x8x8 in 0 to 1, 3 classes: ")
    assert dataset.classes == ["ant", "bee", "cat"]
    assert dataset.class_to_idx == {"ant": 0, "bee": 1, "cat": 2}


def test_a_transform_is_applied_by_index_alone(tmp_path: Path) -> None:
    dataset = load_condensed(str(write_set(tmp_path)), transform=lambda image: image.flip(-1))
    image, label = dataset[9]
    assert torch.equal(image, dataset.images[9].flip(-1))
    assert label == 1
