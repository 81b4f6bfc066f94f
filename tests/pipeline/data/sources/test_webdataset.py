"""Tar files of samples: classes and order, and messages for tars that cannot be used."""

import io
import tarfile
import tracemalloc
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


def written(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    """A folder with a tar of these members, after one image with a class."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        for info, content in [(member("a.png"), encoded(picture(1))), (member("a.cls"), b"3"), *members]:
            info.size = info.size or len(content)
            tar.fileobj.write(
                info.tobuf(tarfile.GNU_FORMAT) + content + b"\0" * (-len(content) % 512)
            )  # as if the size were true
    return path.parent


def member(name: str, size: int = 0, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([(member("b.cls", 2**40), b"")], "has 1099511627776 bytes, allowed: at most 1048576"),
        ([(member("b.json", 2**30), b"")], "has 1073741824 bytes, allowed: at most 1048576"),
        ([(member("x", 2**40, tarfile.XHDTYPE), b"")], "a header has 1099511627776 bytes"),
        ([(member("x", 2**33, tarfile.GNUTYPE_LONGNAME), b"")], "a header has 8589934592 bytes"),
        ([(member("b.cls", -1024), b"")], "is negative"),
        ([(member("b.png", -(2**40)), b"")], "is negative"),
        ([(member("x", 7, tarfile.XHDTYPE), b"9" * 7)] * 2000, "not a complete plain tar file"),
    ],
    ids=["class", "json", "pax", "long name", "negative", "far back", "chain"],
)
def test_sizes_that_a_tar_claims_take_no_memory(
    tmp_path: Path, members: list[tuple[tarfile.TarInfo, bytes]], message: str
) -> None:
    root = written(tmp_path / "t" / "a.tar", *members)
    tracemalloc.start()
    with pytest.raises(UserError, match=message):
        index_of("webdataset", root)
    assert tracemalloc.get_traced_memory()[1] < 32 * 2**20
    tracemalloc.stop()


@pytest.mark.parametrize("name", ["b.cls", "b.json", "b.png"])
def test_sparse_members_are_refused(tmp_path: Path, name: str) -> None:
    info = member(name, 5)
    info.pax_headers = {"GNU.sparse.major": "0", "GNU.sparse.map": "0,5", "GNU.sparse.realsize": str(2**42)}
    info.pax_headers |= {"GNU.sparse.size": str(2**42)}
    path = tmp_path / "t" / "a.tar"
    path.parent.mkdir()
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(info, io.BytesIO(b"12345"))
    with pytest.raises(UserError, match="is sparse"):
        index_of("webdataset", path.parent)
