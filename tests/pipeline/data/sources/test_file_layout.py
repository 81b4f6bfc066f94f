"""Files of many images: which of them count, which split they are of, and the order of classes."""

import os
from pathlib import Path

import pytest

from pipeline.data.sources.file_layout import in_label_order, split_files
from pipeline.errors import UserError
from tests.pipeline.support.parquet import write_parquet
from tests.pipeline.support.source_formats import upload
from tests.pipeline.support.sources import index_of, read_all, refusal


def write(root: Path, *names: str) -> Path:
    """Writes small files."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return root


def names(root: Path, *, tables: bool = False) -> dict[str, list[str]]:
    """The names of the files of every split."""
    found = split_files(str(root), (".tar",), tables=tables)
    return {split: [file.name for file in files] for split, files in {"train": found.train, **found.tests}.items()}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (("imagenet1k-train-0.tar", "imagenet1k-validation-0.tar"), {"train": 1, "val": 1}),
        (("mydata_train.tar", "mydata_test.tar"), {"train": 1, "test": 1}),
        (("split=train/label=test/0.tar", "split=test/label=train/0.tar"), {"train": 1, "test": 1}),
        (("0.tar", "1.tar"), {"train": 2}),
        (("data.tar", "data_test.tar"), {"train": 1, "test": 1}),
        (("images-test-0.tar",), {"train": 1}),
        (("trainers.tar", "contest.tar"), {"train": 2}),
        (("train-0.tar", "extra.tar", "dev.tar"), {"train": 1, "val": 1}),
        (("train.tar", "train_masks.tar", "TEST.TAR"), {"train": 1, "test": 1}),
    ],
)
def test_splits_of_files(tmp_path: Path, files: tuple[str, ...], expected: dict[str, int]) -> None:
    assert {split: len(own) for split, own in names(write(tmp_path, *files)).items()} == expected


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (("test.tar", "val.tar"), "holds the splits test and val, but no training files"),
        (
            ("train-a.tar", "train-b.tar"),
            r"files train-a \(train-a\.tar\), files train-b \(train-b\.tar\) may each be the split train",
        ),
        (("train/val-0.tar",), "its path names the splits train and val"),
    ],
)
def test_files_of_two_readings_are_refused(tmp_path: Path, files: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        names(write(tmp_path, *files))


def test_files_that_are_left_out_are_counted(tmp_path: Path) -> None:
    write(tmp_path, "train.tar", "train_old.tar", "extra.tar", "note.txt", "@eaDir/train.tar", "a/.x/train.tar")
    left_out = {entry.reason: entry.count for entry in split_files(str(tmp_path), (".tar",)).left_out}
    assert left_out == {
        "hidden or of the system": 2,
        "ending .txt": 1,
        "not of files train, which is the split train": 1,
        "no split in the name, beside files of train": 1,
    }


@pytest.mark.parametrize("name", ["_temporary/0/part-0.tar", "_SUCCESS.tar", ".part-0.tar.crc.tar"])
def test_private_files_of_tables(tmp_path: Path, name: str) -> None:
    write(tmp_path, "part-0.tar", "_label=1/part-0.tar", name)
    assert names(tmp_path, tables=True) == {"train": ["_label=1/part-0.tar", "part-0.tar"]}


def test_a_file_that_is_a_link_to_nothing_is_refused(tmp_path: Path) -> None:
    (write(tmp_path, "train-0.tar") / "train-1.tar").symlink_to("gone")
    with pytest.raises(UserError, match=r"train-1\.tar: cannot be read, it is a link to nothing"):
        names(tmp_path)


def test_files_are_found_in_a_bucket(tmp_path: Path, bucket: str) -> None:
    write(tmp_path, "my-train-0.tar", "my-test-0.tar", "_x/my-train-1.tar", ".y/my-train-2.tar")
    there = split_files(upload(tmp_path, f"{bucket}/d"), (".tar",), tables=True)
    here = split_files(str(tmp_path), (".tar",), tables=True)
    assert [file.name for file in there.train] == [file.name for file in here.train] == ["my-train-0.tar"]
    assert (there.left_out, there.recognised) == (here.left_out, here.recognised)


def test_tables_of_names_that_are_not_utf8(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", [0, 1]).rename(tmp_path / os.fsdecode(b"train-caf\xe9.parquet"))
    assert index_of("parquet", tmp_path).counts == {"train": (1, 1)}
    assert [item.label for item in read_all("parquet", tmp_path)] == [0, 1]
    assert read_all("parquet", tmp_path)[0].where.endswith("/train-caf\\xe9.parquet[0]")


def test_the_labelled_split_is_used_for_testing(tmp_path: Path) -> None:
    for split, labels in (("train", [0, 1, 1]), ("validation", [0, 1]), ("test", [-1, -1])):
        write_parquet(tmp_path / "data" / f"{split}-00000-of-00001.parquet", labels)
    index = index_of("parquet", tmp_path)
    assert index.counts == {"train": (1, 2), "test": (1, 1)}
    assert "since test holds no labelled images" in index.findings.splits["test"]
    assert {entry.reason for entry in index.findings.left_out} == {"split test, as val is used for testing"}


def test_without_a_labelled_split_the_sentence_says_so(tmp_path: Path) -> None:
    for split, labels in (("train", [0, 1]), ("test", [-1, -1])):
        write_parquet(tmp_path / f"{split}.parquet", labels)
    message = refusal("parquet", tmp_path)
    assert "no split for testing holds labelled images of the training classes (0, 1)" in message
    assert "test has images of the classes -1" in message


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["10", "9", "100"], ["9", "10", "100"]),
        (["-1", "0", "10", "2"], ["-1", "0", "2", "10"]),
        (["010", "9", "10"], ["9", "010", "10"]),
        (["10", "9", "x"], ["10", "9", "x"]),
        (["1.5", "10", "2"], ["1.5", "10", "2"]),
        (["n02102040", "n01440764"], ["n01440764", "n02102040"]),
    ],
)
def test_numbers_are_ordered_as_numbers(given: list[str], expected: list[str]) -> None:
    assert in_label_order(given) == expected
