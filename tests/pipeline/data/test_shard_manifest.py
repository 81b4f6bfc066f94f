"""Manifests of class shards: moments of the training pixels, and WordNet ids."""

from pathlib import Path

import numpy as np
import pytest

from pipeline import storage
from pipeline.data.shard_builder import make_shards
from pipeline.data.shard_manifest import finish
from tests.pipeline.support.images import encoded, write_folder
from tests.pipeline.support.shards import finished, plan_of, table


@pytest.mark.parametrize("channels", [1, 3])
def test_moments_are_those_of_all_training_pixels(tmp_path: Path, channels: int) -> None:
    plan = plan_of(write_folder(tmp_path / "images", {"train": 5, "test": 2}, channels=channels))
    manifest = finished(plan)
    assert plan.channels == channels
    images = np.concatenate([table(plan, "train", label)[0] for label in range(3)]) / 255
    np.testing.assert_allclose(manifest["mean"], images.mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(manifest["std"], images.std((0, 2, 3)), rtol=1e-9)
    assert list(manifest["shape"]) == [channels, 12, 12]


def test_moments_of_a_plain_colour_are_no_zero(tmp_path: Path) -> None:
    (tmp_path / "images" / "ant").mkdir(parents=True)
    for i in range(5):
        (tmp_path / "images" / "ant" / f"{i}.png").write_bytes(encoded(np.full((12, 12, 3), 51, np.uint8)))
    manifest = finished(plan_of(tmp_path / "images"))
    np.testing.assert_allclose(manifest["mean"], [0.2] * 3)
    assert min(manifest["std"]) > 0


def test_moments_do_not_depend_on_chunks(folder: Path, tmp_path: Path) -> None:
    together, apart = plan_of(folder, tmp_path / "a"), plan_of(folder, tmp_path / "b")
    first = finished(together)
    for label in (2, 0, 1):
        make_shards(apart, [label])
    assert finish(apart) == first
    for name in storage.files_below(together.folder):
        assert storage.read_bytes(f"{together.folder}/{name}") == storage.read_bytes(f"{apart.folder}/{name}")


def test_wordnet_ids(tmp_path: Path) -> None:
    write_folder(tmp_path / "images", {"": 5}, classes=("n01440764", "tench"))
    manifest = finished(plan_of(tmp_path / "images"))
    assert [entry["wnid"] for entry in manifest["classes"]] == ["n01440764", ""]
