"""Words that name splits: where they stand in a path, what only looks like one, and which of several candidates wins."""

import pytest

from pipeline.data.sources.layout.split_words import candidate_of, kind_of, only_candidate, splits_among
from pipeline.errors import UserError


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("train", "train"),
        ("Training", "train"),
        ("imagenet1k-train-0000", "train"),
        ("mydata_test", "test"),
        ("images.validation.part", "val"),
        ("train2017", "train"),
        ("DigitsTest", "test"),
        ("TRAIN", "train"),
        ("split=train", "train"),
        ("dev", "val"),
        ("trainval", "train"),
        ("trainers", None),
        ("trains", None),
        ("contest", None),
        ("testament", None),
        ("latest", None),
        ("valley", None),
        ("interval", None),
        ("devices", None),
        ("testé", None),
        ("label=train", None),
        ("train_test", None),
    ],
)
def test_kind_of(name: str, kind: str | None) -> None:
    assert kind_of(name) == kind


@pytest.mark.parametrize(
    ("path", "kind", "exact"),
    [
        ("imagenet1k-train-0000.tar", "train", False),
        ("train-00000-of-00002-a09b74b3ef9c3b56.parquet", "train", True),
        ("part-0.train.parquet", "train", True),
        ("split=test/label=1/part-0.parquet", "test", True),
        ("label=test/split=train/part-0.parquet", "train", True),
        ("train_masks-0.tar", "train", False),
        ("train.v2.parquet", "train", False),
        ("data/Validation/0.tar", "val", True),
        ("test_images/train.parquet", "train", True),
    ],
)
def test_candidate_of(path: str, kind: str, exact: bool) -> None:
    candidate = candidate_of(path)
    assert candidate is not None
    assert (candidate.kind, candidate.exact) == (kind, exact)


def test_a_path_of_two_splits_is_refused() -> None:
    with pytest.raises(UserError, match=r"train/test-0\.tar: its path names the splits test and train"):
        candidate_of("train/test-0.tar")


@pytest.mark.parametrize(
    ("paths", "chosen"),
    [
        (("train-0.tar", "train-1.tar"), "files train-*"),
        (("train-00000-of-00002-a09b74b3ef9c3b56.tar", "train-00001-of-00002-6623625b69ddaaaa.tar"), "files train-*"),
        (("2023/train-0.tar", "2024/train-1.tar"), "files train-*"),
        (("label=0/split=train/a.tar", "label=1/split=train/b.tar"), "folder split=train"),
        (("train/x.tar", "train/y_masks.tar"), "folder train"),
        (("train.tar", "train_masks.tar"), "files train"),
        (("train/0.tar", "Train_masks/0.tar"), "folder train"),
        (("a_train_0.tar", "a_train_1.tar"), "files a_train_*"),
    ],
)
def test_the_exact_name_wins(paths: tuple[str, ...], chosen: str) -> None:
    candidates = {candidate: [path] for path in paths if (candidate := candidate_of(path))}
    only = only_candidate(candidates, "PATH")
    assert only is not None
    assert only.text == chosen


@pytest.mark.parametrize(
    "paths",
    [
        ("train_old.tar", "my_train.tar"),
        ("v1/train-0.tar", "v2/train-0.tar"),
        ("train/0.tar", "training/0.tar"),
        ("imagenet1k-train-0.tar", "cifar10-train-0.tar"),
        ("cropped/train-0.tar", "full/train-0.tar"),
    ],
)
def test_two_candidates_are_refused_by_name(paths: tuple[str, ...]) -> None:
    candidates = {candidate: [path] for path in paths if (candidate := candidate_of(path))}
    with pytest.raises(UserError, match="may each be the split train") as caught:
        only_candidate(candidates, "PATH")
    assert all(path in str(caught.value) for path in paths)


@pytest.mark.parametrize(
    ("folders", "splits"),
    [
        (["boots", "sandals", "trainers"], {}),
        (["docs", "train", "val"], {"train": ["train"], "val": ["val"]}),
        (["cifar_test", "cifar_train"], {"test": ["cifar_test"], "train": ["cifar_train"]}),
        (["cifar_test", "cifar_train", "cats"], {}),
        (["Train_masks", "train", "val"], {"train": ["Train_masks", "train"], "val": ["val"]}),
    ],
)
def test_splits_among_folders(folders: list[str], splits: dict[str, list[str]]) -> None:
    assert splits_among(folders) == splits
