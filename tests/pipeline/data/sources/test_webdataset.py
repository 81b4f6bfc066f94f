"""Tar files of samples: classes and order, and messages for tars that cannot be used."""

import io
import tarfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.config.run_config import Data
from pipeline.data.shard_builder import make_shards
from pipeline.data.shard_plan import plan_shards
from pipeline.data.sources.layout import tar_samples
from pipeline.errors import UserError
from tests.pipeline.support.images import encoded, picture, write_folder
from tests.pipeline.support.source_formats import write_tars
from tests.pipeline.support.sources import index_of, read_all, refusal


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


def tar_with(path: Path, *members: tuple[str, bytes]) -> Path:
    """A tar of members with their contents; the folder that it is in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path.parent


IMAGE = encoded(picture(1))
APPLE = b"\0\5\x16\7" + b"\0" * 100
"""AppleDouble, which macOS stores beside every file of a tar."""


def samples(described: Callable[[int], tuple[str, bytes]], folder: str = "") -> list[tuple[str, bytes]]:
    """Four samples of two classes, with what stands beside their images."""
    pairs = [((f"{folder}{i:04d}.png", IMAGE), described(i)) for i in range(4)]
    return [
        (name, content) for image, (ending, text) in pairs for name, content in (image, (image[0][:-3] + ending, text))
    ]


def test_hidden_members_are_left_out(tmp_path: Path) -> None:
    members = [
        part
        for i in range(4)
        for part in (
            (f"./._{i}.png", APPLE),
            (f"./{i}.png", IMAGE),
            (f"./._{i}.cls", APPLE),
            (f"./{i}.cls", str(i % 2).encode()),
            (f"@eaDir/{i}.png", APPLE),
        )
    ]
    index = index_of("webdataset", tar_with(tmp_path / "t" / "train-0.tar", *members))
    assert (index.class_names, index.counts) == (("0", "1"), {"train": (2, 2)})
    assert [(entry.reason, entry.count) for entry in index.findings.left_out] == [("hidden or of the system", 12)]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (b'{"category": "cat"}', ["has no class", "its .json has 'category'"]),
        (b'{"class_id": 1, "width": 3}', ["its .json has 'class_id', 'width'"]),
        (b'{"label": ["cat"]}', ["its .json has 'label'"]),
        (b'{"label": 1.5}', ["its .json has 'label'"]),
        (b'{"label": true}', ["its .json has 'label'"]),
        (b'{"name": "tabby"}', ["its .json has 'name'"]),
        (b"{}", ["its .json has no keys"]),
        (b"[1]", ["its .json is no object"]),
        (b"{", ["its .json is not valid"]),
    ],
)
@pytest.mark.parametrize("folder", ["images/", "./", ""])
def test_a_class_that_is_not_understood_is_not_that_of_the_folder(
    tmp_path: Path, text: bytes, parts: list[str], folder: str
) -> None:
    root = tar_with(tmp_path / "t" / "train-0.tar", *samples(lambda i: ("json", text), folder))
    message = refusal("webdataset", root)
    assert all(part in message for part in (f"sample '{folder}0000'", "wnid", *parts))


def test_other_texts_beside_images_of_one_folder_are_no_classes(tmp_path: Path) -> None:
    root = tar_with(tmp_path / "t" / "train-0.tar", *samples(lambda i: ("txt", b"cat"), "images/"))
    assert "sample 'images/0000' has no class: its .txt is not read" in refusal("webdataset", root)


def test_descriptions_without_a_class_leave_the_class_to_several_folders(tmp_path: Path) -> None:
    members = [*samples(lambda i: ("json", b'{"width": 12}'), "cat/"), *samples(lambda i: ("txt", b"a dog"), "dog/")]
    index = index_of("webdataset", tar_with(tmp_path / "t" / "train-0.tar", *members))
    assert (index.class_names, index.counts) == (("cat", "dog"), {"train": (4, 4)})
    assert [(entry.reason, entry.count) for entry in index.findings.left_out] == [("ending .txt", 4)]


@pytest.mark.parametrize(
    ("described", "names"),
    [
        (lambda i: ("json", b'{"label": %d.0}' % (i % 2)), ("0", "1")),
        (lambda i: ("cls", b"%d\n" % (i % 2 + 9)), ("9", "10")),
        (lambda i: ("json", b'{"label": %d, "score": NaN, "hash": 18446744073709551615}' % (i % 2)), ("0", "1")),
        (lambda i: ("json", b'{"label": %d, "far": -Infinity, "big": 1e300, "sha": %d}' % (i % 2, 2**255)), ("0", "1")),
    ],
)
def test_whole_numbers_name_classes(
    tmp_path: Path, described: Callable[[int], tuple[str, bytes]], names: tuple[str, ...]
) -> None:
    root = tar_with(tmp_path / "t" / "train-0.tar", *samples(described, "images/"))
    assert index_of("webdataset", root).class_names == names


@pytest.mark.parametrize("folder", ["", "images/"])
def test_members_of_a_sample_that_do_not_stand_together_are_refused(tmp_path: Path, folder: str) -> None:
    apart = samples(lambda i: ("cls", str(i % 2).encode()), folder)
    root = tar_with(tmp_path / "t" / "train-0.tar", *apart[::2], *apart[1::2])
    message = refusal("webdataset", root)
    assert f"the members of sample '{folder}0000' do not stand together" in message
    assert "tar --sort=name" in message


@pytest.mark.parametrize(("text", "why"), [(b"", "its .cls is empty"), (b"\xff\xfe", "its .cls is not text")])
def test_a_class_that_cannot_be_read_is_refused(tmp_path: Path, text: bytes, why: str) -> None:
    root = tar_with(tmp_path / "t" / "train-0.tar", *samples(lambda i: ("cls", text), "images/"))
    assert f"sample 'images/0000' has no class: {why}" in refusal("webdataset", root)


def test_splits_within_a_tar_are_refused(tmp_path: Path) -> None:
    root = tar_of(tmp_path / "t" / "all.tar", "train/cat/1.png", "train/dog/2.png", "test/cat/3.png", "test/dog/4.png")
    assert "folders of the splits test and train" in refusal("webdataset", root)


@pytest.mark.parametrize("above", ["", "images/"])
@pytest.mark.parametrize("names", [("car", "train"), ("dev", "prod", "test"), ("bus", "test", "train")])
def test_classes_called_like_splits(tmp_path: Path, names: tuple[str, ...], above: str) -> None:
    members = [f"{above}{name}/{i}.png" for name in names for i in range(2)]
    tar_of(tmp_path / "t" / "my-train-0.tar", *members)
    root = tar_of(tmp_path / "t" / "my-test-0.tar", *(f"{above}{names[-1]}/{i}.png" for i in range(2)))
    index = index_of("webdataset", root)
    assert (index.class_names, index.counts["train"]) == (names, (2,) * len(names))
    assert index.counts["test"] == (0,) * (len(names) - 1) + (2,)


@pytest.mark.parametrize("names", [("train",), ("train", "test"), ("data/train", "data/dev")])
def test_folders_that_all_name_splits_are_no_classes(tmp_path: Path, names: tuple[str, ...]) -> None:
    root = tar_of(tmp_path / "t" / "a.tar", *(f"{name}/{i}.png" for name in names for i in range(2)))
    assert f"sample '{names[0]}/0' has no class" in refusal("webdataset", root)


def test_a_folder_for_testing_that_only_names_the_split_gives_way_to_validation(tmp_path: Path) -> None:
    tar_of(tmp_path / "t" / "my-train-0.tar", "cat/1.png", "dog/2.png")
    tar_of(tmp_path / "t" / "my-val-0.tar", "val/cat/3.png", "val/dog/4.png")
    root = tar_of(tmp_path / "t" / "my-test-0.tar", "test/5.png", "test/6.png")
    assert index_of("webdataset", root).counts == {"train": (1, 1), "test": (1, 1)}
    (root / "my-val-0.tar").unlink()
    assert "test has no labelled images" in refusal("webdataset", root)


def test_samples_without_classes_for_testing_give_way_to_validation(tmp_path: Path) -> None:
    tar_of(tmp_path / "t" / "my-train-0.tar", "cat/1.png", "dog/2.png")
    tar_of(tmp_path / "t" / "my-val-0.tar", "cat/3.png", "dog/4.png")
    root = tar_of(tmp_path / "t" / "my-test-0.tar", "5.png", "6.png")
    index = index_of("webdataset", root)
    assert index.counts == {"train": (1, 1), "test": (1, 1)}
    assert "test holds no labelled images" in index.findings.splits["test"]


def test_names_in_a_tar_that_are_not_utf8(tmp_path: Path) -> None:
    others = [f"{folder}/{i}.png" for folder in ("cat", "h\udcfctte") for i in range(3)]
    root = tar_of(tmp_path / "t" / "train-0.tar", "cat/caf\udce9.png", *others)
    plan = plan_shards(Data(source="webdataset", path=str(root), image_size=12), str(tmp_path / "a"))
    assert plan.names == ("cat", "h\\xfctte")
    make_shards(plan, [0, 1])
    assert [item.path for item in read_all("webdataset", root)][3:5] == ["cat/caf\\xe9.png", "h\\xfctte/0.png"]


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


def test_an_image_of_an_absurd_size_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar_samples, "IMAGE_BYTES", 4)
    path = tmp_path / "t" / "a.tar"
    path.parent.mkdir()
    with tarfile.open(path, "w") as tar:
        tar.addfile(member("cat/a.png", 5), io.BytesIO(b"12345"))
    with pytest.raises(
        UserError, match=r"a\.tar: member 'cat/a\.png': has 5 bytes; allowed for a file of this kind: at"
    ):
        index_of("webdataset", path.parent)
