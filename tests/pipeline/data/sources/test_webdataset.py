"""Tar files of samples: classes and order, and messages for tars that cannot be used."""

import tarfile
from pathlib import Path

import pytest

from pipeline.config.run_config import Data
from pipeline.data.shard_builder import make_shards
from pipeline.data.shard_plan import plan_shards
from pipeline.errors import UserError
from tests.pipeline.support.images import encoded, picture, write_folder
from tests.pipeline.support.source_formats import write_tars
from tests.pipeline.support.sources import index_of


def test_bad_images_of_tars_are_named(tmp_path: Path) -> None:
    images = write_folder(tmp_path / "images", {"train": 12, "val": 4}, classes=("n01440764", "n02102040", "n03888257"))
    bad = images / "train" / "n02102040" / "004.png"
    bad.write_bytes(bad.read_bytes()[:-50])
    tars = write_tars(images, tmp_path / "form")
    plan = plan_shards(Data(source="webdataset", path=str(tars), image_size=12), str(tmp_path / "a"))
    with pytest.raises(UserError, match=r"train-00000\d\.tar:n02102040-004\.png: cannot be decoded"):
        make_shards(plan, [2, 0, 1])


def tar_of(path: Path, *members: str) -> Path:
    """A tar of members that are all the same small image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = path.parent / "one.png"
    image.write_bytes(encoded(picture(1)))
    with tarfile.open(path, "w") as tar:
        for member in members:
            tar.add(image, member)
    image.unlink()
    return path.parent


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (("readme.txt",), "hold no images"),
        (("000001.png",), "sample '000001' has no class"),
        (("train/000001.png",), "has no class"),
        (("a/1.png", "a/1.jpg"), "several images"),
    ],
)
def test_tars_that_cannot_be_used(tmp_path: Path, members: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        index_of("webdataset", tar_of(tmp_path / "t" / "a.tar", *members))


def test_compressed_and_damaged_tars_are_refused(tmp_path: Path) -> None:
    root = tar_of(tmp_path / "t" / "a.tar", "ant/1.png", "ant/2.png")
    whole = (root / "a.tar").read_bytes()
    (root / "a.tar").write_bytes(whole[:900])
    with pytest.raises(UserError, match="not a complete plain tar"):
        index_of("webdataset", root)
    (root / "a.tar").rename(root / "a.tar.gz")
    with pytest.raises(UserError, match="must be unpacked"):
        index_of("webdataset", root)


def test_integer_classes_of_tars_are_in_the_order_of_numbers(tmp_path: Path) -> None:
    root = tar_of(tmp_path / "t" / "a.tar", "10/1.png", "9/2.png", "100/3.png")
    assert index_of("webdataset", root).class_names == ("9", "10", "100")
