"""Folders of images with several readings: what is a split, what is a class, and what is refused because it may be either."""

import os
from pathlib import Path

import pytest

from pipeline.data.image_formats import image_endings
from tests.pipeline.support.images import encoded, picture, write_folder
from tests.pipeline.support.source_formats import upload
from tests.pipeline.support.sources import index_of, read_all, refusal


def put(root: Path, *names: str) -> Path:
    """Writes files; those with the ending of an image contain the same small image."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(encoded(picture(1)) if Path(name).suffix.lower() in image_endings() else b"x")
    return root


def reasons(root: Path) -> dict[str, int]:
    """What a folder of images leaves out, by reason."""
    return {entry.reason: entry.count for entry in index_of("image_folder", root).findings.left_out}


def test_a_class_whose_name_begins_with_train(tmp_path: Path) -> None:
    put(tmp_path, *(f"{kind}/{brand}/0.png" for kind in ("boots", "sandals", "trainers") for brand in ("nike", "puma")))
    index = index_of("image_folder", tmp_path)
    assert (index.class_names, index.counts) == (("boots", "sandals", "trainers"), {"train": (2, 2, 2)})


@pytest.mark.parametrize("name", ["testament", "valley", "training shoes", "trainspotting"])
def test_other_classes_that_begin_like_splits(tmp_path: Path, name: str) -> None:
    put(tmp_path, "boots/a/0.png", f"{name}/a/0.png")
    assert index_of("image_folder", tmp_path).class_names == ("boots", name)


def test_the_exact_name_is_the_split(tmp_path: Path) -> None:
    write_folder(tmp_path, {"Train_masks": 3, "train": 2, "val": 1})
    index = index_of("image_folder", tmp_path)
    assert index.counts == {"train": (2, 2, 2), "test": (1, 1, 1)}
    assert index.findings.splits == {"train": "folder train", "test": "folder val"}
    assert reasons(tmp_path) == {"outside of the folders of the splits": 9}
    assert read_all("image_folder", tmp_path, "train")[0].path == "train/ant/000.png"


def test_folders_that_are_all_splits_need_no_exact_names(tmp_path: Path) -> None:
    write_folder(tmp_path, {"cifar_train": 2, "cifar_test": 1})
    assert index_of("image_folder", tmp_path).counts == {"train": (2, 2, 2), "test": (1, 1, 1)}


@pytest.mark.parametrize(
    ("names", "parts"),
    [
        (("train/cat/0.png", "training/cat/0.png"), ["folder train", "folder training", "may each be the split train"]),
        (("trainA/cat/0.png", "trainB/cat/0.png", "testA/cat/0.png"), ["trainA", "trainB"]),
        (
            ("train_images/cat/0.png", "test_images/cat/0.png", "masks/0.png"),
            ["test_images, train_images may be splits"],
        ),
        (("val/cat/0.png", "cat/0.png", "dog/0.png"), ["val may be splits or classes"]),
        (("test/cat/0.png",), ["test may be splits or classes"]),
        (("train/0.png", "test/1.png"), ["test, train may be splits or classes"]),
        (("train/steam/0.png", "car/0.png"), ["train may be the training split, without car"]),
        (("cat/train/0.png", "cat/test/1.png", "dog/0.png"), ["cat: contains the folders train, test"]),
        (("images/train/cat/0.png", "images/val/cat/0.png"), ["images: contains the folders train, val", "--data"]),
        (
            ("cat/train_0.png", "cat/test_0.png", "dog/train_1.png"),
            ["the names of all images name a split (test, train)"],
        ),
    ],
)
def test_two_readings_are_refused_with_both(tmp_path: Path, names: tuple[str, ...], parts: list[str]) -> None:
    message = refusal("image_folder", put(tmp_path, *names))
    assert all(part in message for part in parts)


@pytest.mark.parametrize(
    ("names", "classes"),
    [
        (("car/0.png", "train/0.png", "truck/0.png"), ("car", "train", "truck")),
        (("rail/train/0.png", "rail/tram/0.png", "road/car/0.png"), ("rail", "road")),
        (("car/crash-test-1.png", "train/steam-train.png", "car/2.png"), ("car", "train")),
    ],
)
def test_names_of_one_reading(tmp_path: Path, names: tuple[str, ...], classes: tuple[str, ...]) -> None:
    assert index_of("image_folder", put(tmp_path, *names)).class_names == classes


@pytest.mark.parametrize(
    "private", [".ipynb_checkpoints", "@eaDir", "__MACOSX", "deep/.thumbnails", "#recycle", "@eaDir/train"]
)
@pytest.mark.parametrize("place", ["", "cat"])
def test_private_folders_are_left_out_at_every_level(tmp_path: Path, private: str, place: str) -> None:
    put(tmp_path, "cat/0.png", "dog/0.png", str(Path(place, private, "cat", "0.png")))
    index = index_of("image_folder", tmp_path)
    assert (index.class_names, index.counts) == (("cat", "dog"), {"train": (1, 1)})
    assert reasons(tmp_path)["hidden or of the system"] == 1


@pytest.mark.parametrize("private", ["cat/.ipynb_checkpoints", "@eaDir"])
def test_private_folders_of_a_bucket(tmp_path: Path, bucket: str, private: str) -> None:
    here = put(tmp_path, "cat/0.png", "dog/0.png", f"{private}/1.png", "cat/a.heic", "loose.png")
    there = index_of("image_folder", upload(here, f"{bucket}/d"))
    assert there.counts == {"train": (1, 1)}
    assert there.findings == index_of("image_folder", here).findings


@pytest.mark.parametrize("ending", ["avif", "jfif", "jp2", "tga", "pnm", "qoi", "APNG"])
def test_every_ending_that_pillow_reads_counts(tmp_path: Path, ending: str) -> None:
    if f".{ending.lower()}" not in image_endings():
        pytest.skip(f"this Pillow does not read .{ending}")
    put(tmp_path, "apple/0.png", f"cherry/0.{ending}", "plum/0.png")
    assert index_of("image_folder", tmp_path).class_names == ("apple", "cherry", "plum")


@pytest.mark.parametrize("ending", [".heic", ".pdf", ".h5", ".mpg", ".txt", ""])
def test_a_class_folder_without_an_image_that_is_read_is_refused(tmp_path: Path, ending: str) -> None:
    put(tmp_path, "apple/0.png", "cherry/deep/0.png", "plum/0.png")
    (tmp_path / "cherry" / "deep" / "0.png").rename(tmp_path / "cherry" / f"0{ending}")
    message = refusal("image_folder", tmp_path)
    assert "cherry" in message
    assert (f"ending {ending}" if ending else "no ending") in message
    assert index_of("image_folder", tmp_path, classes=("apple", "plum")).class_names == ("apple", "plum")


def test_a_class_of_the_test_split_without_an_image_that_is_read_is_refused(tmp_path: Path) -> None:
    put(tmp_path, "train/a/0.png", "train/b/0.png", "test/a/0.png", "test/b/0.heic")
    assert "the class folders b hold files, but no image that is read (ending .heic)" in refusal(
        "image_folder", tmp_path
    )


def test_everything_is_accounted_for(tmp_path: Path) -> None:
    put(tmp_path, "train/a/0.png", "train/a/1.heic", "train/a/2.heic", "train/loose.png", "train/a/.x.png")
    put(tmp_path, "test/a/0.png", "test/stranger/0.png", "val/a/0.png", "extra/a/0.png", "README", "train/note.txt")
    (tmp_path / "train" / "empty").mkdir()
    findings = index_of("image_folder", tmp_path).findings
    assert (findings.found, findings.taken) == (11, 2)
    assert {entry.reason: entry.count for entry in findings.left_out} == {
        "hidden or of the system": 1,
        "ending .heic": 2,
        "ending .txt": 1,
        "no ending": 1,
        "not in a class folder": 1,
        "class without training images": 1,
        "split val, as test is used for testing": 1,
        "outside of the folders of the splits": 1,
        "class folder without images": 1,
    }


@pytest.mark.parametrize("test", ["unknown/0.png", "images/0.png"])
def test_a_test_split_without_labels_gives_way_to_the_validation_split(tmp_path: Path, test: str) -> None:
    put(tmp_path, "train/a/0.png", "val/a/0.png", f"test/{test}")
    index = index_of("image_folder", tmp_path)
    assert index.counts == {"train": (1,), "test": (1,)}
    assert index.findings.splits["test"] == "folder val, as test holds no images of the classes"
    assert reasons(tmp_path) == {"split test, as val is used for testing": 1}


@pytest.mark.parametrize(
    ("train", "flat"),
    [
        ("train", "val/ILSVRC2012_val_1.png"),
        ("train", "test/1.png"),
        ("train", "Validation/1.png"),
        ("train2017", "val2017/1.png"),
    ],
)
def test_a_split_for_testing_without_class_folders_is_not_passed_over(tmp_path: Path, train: str, flat: str) -> None:
    put(tmp_path, f"{train}/n01440764/0.png", f"{train}/n01443537/0.png", flat)
    message = refusal("image_folder", tmp_path)
    assert "has no labelled images; label them as the training images are, in class folders" in message
    assert "or take these splits out of the source and test images are cut from train" in message


def test_a_split_for_testing_without_class_folders_names_the_file_of_its_labels(tmp_path: Path) -> None:
    put(tmp_path, "train/n01440764/0.png", "val/1.png", "val/labels.csv")
    assert "perhaps val/labels.csv says which" in refusal("image_folder", tmp_path)


def test_images_for_testing_without_class_folders_give_way_to_labelled_ones(tmp_path: Path) -> None:
    put(tmp_path, "train/a/0.png", "val/a/0.png", "test/0.png", "test/1.png", "val_masks/0.png")
    index = index_of("image_folder", tmp_path)
    assert (index.counts, index.findings.splits["test"]) == (
        {"train": (1,), "test": (1,)},
        "folder val, as test holds no images of the classes",
    )
    assert reasons(tmp_path) == {
        "split test, as val is used for testing": 2,
        "outside of the folders of the splits": 1,
    }


def test_images_of_another_name_are_no_split_beside_an_exact_one(tmp_path: Path) -> None:
    put(tmp_path, "train/a/0.png", "val_masks/0.png")
    assert index_of("image_folder", tmp_path).counts == {"train": (1,)}


@pytest.mark.parametrize("other", ["archive", "chest_xray/chest_xray"])
def test_splits_in_other_folders_do_not_matter_beside_those_at_the_top(tmp_path: Path, other: str) -> None:
    splits = ("train/cat/0.png", "test/cat/0.png")
    put(tmp_path, *splits, *(f"{other}/{name}" for name in splits))
    assert index_of("image_folder", tmp_path).counts == {"train": (1,), "test": (1,)}
    assert reasons(tmp_path) == {"outside of the folders of the splits": 2}


def test_splits_in_a_split_are_refused(tmp_path: Path) -> None:
    put(tmp_path, "train/cat/train/0.png", "train/cat/test/0.png", "test/cat/0.png")
    assert "train/cat: contains the folders train, test" in refusal("image_folder", tmp_path)


@pytest.mark.parametrize("other", ["annotations/instances.json", "labels/deep/0.csv", "empty"])
@pytest.mark.parametrize("above", ["", "coco/"])
def test_folders_without_images_do_not_stand_beside_splits(tmp_path: Path, other: str, above: str) -> None:
    put(tmp_path, *(f"{above}{split}/cat/0.png" for split in ("train2017", "val2017")))
    if other == "empty":
        (tmp_path / above / other).mkdir()
    else:
        put(tmp_path, f"{above}{other}")
    if above:
        assert "coco: contains the folders train2017, val2017" in refusal("image_folder", tmp_path)
    else:
        assert index_of("image_folder", tmp_path).counts == {"train": (1,), "test": (1,)}


@pytest.mark.parametrize("names", [("train",), ("train", "test"), ("Training", "val")])
def test_a_doubled_split_is_no_class(tmp_path: Path, names: tuple[str, ...]) -> None:
    put(tmp_path, *(f"{name}/{name}/{label}/0.png" for name in names for label in "ab"))
    message = refusal("image_folder", tmp_path)
    assert f"{names[0]}: its only folder is {names[0]}, which contains folders" in message
    assert f"move the folders in {names[0]}/{names[0]} one level up" in message


def test_a_class_called_like_a_split_beside_another_class(tmp_path: Path) -> None:
    put(tmp_path, "train/train/steam/0.png", "train/car/0.png", "test/train/0.png", "test/car/0.png")
    assert index_of("image_folder", tmp_path).class_names == ("car", "train")


def test_no_labelled_split_for_testing_is_one_sentence(tmp_path: Path) -> None:
    put(tmp_path, "train/n01443537/images/0.png", "val/images/0.png", "val/val_annotations.txt", "test/images/0.png")
    message = refusal("image_folder", tmp_path)
    for part in ("n01443537", "test has images of the classes images", "val/val_annotations.txt", "cut from train"):
        assert part in message


def test_images_of_names_that_are_not_utf8(tmp_path: Path) -> None:
    put(tmp_path, "cat/0.png", os.fsdecode(b"cat/caf\xe9.png"), os.fsdecode(b"h\xfctte/0.png"))
    index = index_of("image_folder", tmp_path)
    assert (index.class_names, index.counts) == (("cat", "h\\xfctte"), {"train": (2, 1)})
    assert [item.path for item in read_all("image_folder", tmp_path)] == [
        "cat/0.png",
        "cat/caf\\xe9.png",
        "h\\xfctte/0.png",
    ]


def test_a_link_to_nothing_is_a_bad_image(tmp_path: Path) -> None:
    put(tmp_path, "cat/0.png")
    (tmp_path / "cat" / "1.png").symlink_to("/nowhere/gone.png")
    assert [
        (item.path, bool(item.content), "link to nothing" in item.problem)
        for item in read_all("image_folder", tmp_path)
    ] == [
        ("cat/0.png", True, False),
        ("cat/1.png", False, True),
    ]


@pytest.mark.parametrize("link", ["latest", "deep"])
def test_a_loop_of_links_is_read_once(tmp_path: Path, link: str) -> None:
    put(tmp_path, "cat/0.png", "cat/old/1.png", "dog/0.png")
    (tmp_path / "cat" / link).symlink_to("." if link == "latest" else "old")
    assert index_of("image_folder", tmp_path).counts == {"train": (2, 1)}
    assert len(read_all("image_folder", tmp_path, labels=[0])) == 2
    assert reasons(tmp_path) == {"link to a folder that is read anyway": 1}
