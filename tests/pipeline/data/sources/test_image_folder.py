"""Folders of images: classes, splits and order, and messages for what is refused."""

from pathlib import Path

import pytest

from tests.pipeline.support.images import encoded, number_of, picture, write_folder
from tests.pipeline.support.sources import index_of, read_all, refusal


def test_folder(folder: Path) -> None:
    index = index_of("image_folder", folder)
    assert index.class_names == ("ant", "bee", "cat")
    assert index.counts == {"train": (12, 12, 12), "test": (4, 4, 4)}
    items = read_all("image_folder", folder, "test", [1])
    assert [item.path for item in items] == [f"test/bee/{i:03d}.png" for i in range(4)]
    assert [item.content for item in items] == [encoded(picture(number_of("test", 1, i))) for i in range(4)]


@pytest.mark.parametrize(
    ("splits", "used"),
    [
        (("train", "val"), ("train", "val")),
        (("train", "test"), ("train", "test")),
        (("train", "test", "val"), ("train", "test")),
        (("Train", "validation"), ("Train", "validation")),
        (("train",), ("train",)),
        (("",), ("",)),
    ],
)
def test_splits_of_a_folder(tmp_path: Path, splits: tuple[str, ...], used: tuple[str, ...]) -> None:
    write_folder(tmp_path, {split: 2 + i for i, split in enumerate(splits)})
    counts: dict[str, tuple[int, ...]] = {"train": (2, 2, 2)}
    if len(used) > 1:
        counts["test"] = (2 + splits.index(used[1]),) * 3
    assert index_of("image_folder", tmp_path).counts == counts
    for split, name in zip(counts, used, strict=True):
        first = read_all("image_folder", tmp_path, split)[0].path
        assert first == f"{name}/ant/000.png".removeprefix("/")


def test_a_class_that_is_called_train(tmp_path: Path) -> None:
    write_folder(tmp_path, {"": 2}, classes=("car", "train", "truck"))
    assert index_of("image_folder", tmp_path).class_names == ("car", "train", "truck")


def test_nested_hidden_and_other_files(tmp_path: Path) -> None:
    write_folder(tmp_path, {"": 1}, classes=("ant",))
    deep = write_folder(tmp_path / "ant", {"": 2}, classes=("deeper",)) / "deeper"
    (deep / "photo.JPEG").write_bytes(encoded(picture(5), "JPEG"))
    for name in ("readme.txt", "ant/notes.txt", "ant/.hidden.png"):
        (tmp_path / name).write_bytes(b"x")
    write_folder(tmp_path, {"": 1}, classes=(".cache",))
    assert index_of("image_folder", tmp_path).class_names == ("ant",)
    assert [item.path for item in read_all("image_folder", tmp_path)] == [
        "ant/000.png",
        "ant/deeper/000.png",
        "ant/deeper/001.png",
        "ant/deeper/photo.JPEG",
    ]


def test_an_empty_class_folder_is_no_class(folder: Path) -> None:
    (folder / "train" / "aaa").mkdir()
    assert index_of("image_folder", folder).class_names == ("ant", "bee", "cat")


def test_a_class_without_test_images_is_counted(folder: Path) -> None:
    write_folder(folder, {"train": 1}, classes=("dog",))
    assert index_of("image_folder", folder).counts["test"] == (4, 4, 4, 0)


def test_folder_changes_its_fingerprint(folder: Path) -> None:
    before = index_of("image_folder", folder).fingerprint
    assert index_of("image_folder", folder).fingerprint == before
    (folder / "train" / "ant" / "new.png").write_bytes(encoded(picture(9)))
    assert index_of("image_folder", folder).fingerprint != before


def test_folder_is_the_same_elsewhere(folder: Path, tmp_path: Path) -> None:
    before = index_of("image_folder", folder).fingerprint
    folder.rename(tmp_path / "moved")
    assert index_of("image_folder", tmp_path / "moved").fingerprint == before


def test_folder_without_images(tmp_path: Path) -> None:
    (tmp_path / "train" / "ant").mkdir(parents=True)
    assert str(tmp_path / "train") in refusal("image_folder", tmp_path)
    assert "CLASS/*" in refusal("image_folder", tmp_path)


def test_empty_folder(tmp_path: Path) -> None:
    assert f"{tmp_path}: holds no images" in refusal("image_folder", tmp_path)


def test_a_file_as_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "is not a folder" in refusal("image_folder", tmp_path / "file")
