"""Manifests of class shards: moments of the training pixels, and WordNet ids."""

from pathlib import Path

import numpy as np
import pytest

from pipeline import storage
from pipeline.data.shard_builder import make_shards
from pipeline.data.shard_manifest import PreparedManifest, finish, require_rows, seal_of
from pipeline.errors import UserError
from pipeline.storage.documents import read_document, sealed, write_document
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


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_class_of_which_no_image_could_be_decoded_is_refused(folder: Path, split: str) -> None:
    for path in (folder / split / "bee").iterdir():
        path.write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    manifest = finished(plan_of(folder, on_bad_image="skip", channels=3))
    with pytest.raises(UserError, match=f"classes without {split} images: bee; .*{split}/bee/000.png.*data.classes"):
        require_rows(manifest)


def test_skipped_images_of_a_class_with_others_are_no_reason(folder: Path) -> None:
    (folder / "test" / "bee" / "000.png").write_bytes(b"broken")
    require_rows(finished(plan_of(folder, on_bad_image="skip")))


@pytest.mark.parametrize(("good", "train", "test"), [(10, 8, 2), (2, 1, 1), (1, 1, 0)])
def test_others_are_cut_for_testing_if_those_that_were_cut_cannot_be_decoded(
    tmp_path: Path, good: int, train: int, test: int
) -> None:
    folder = write_folder(tmp_path / "images", {"train": 12})
    plan = plan_of(folder, tmp_path / "whole")
    whole = finished(plan)
    cut = [folder / path for path in table(plan, "test", 1)[1]]
    others = sorted({*(folder / "train" / "bee").iterdir()} - {*cut})
    for path in cut + others[good:]:
        path.write_bytes(b"broken")
    manifest = finished(plan_of(folder, tmp_path / "broken", on_bad_image="skip"))
    entry = manifest["classes"][1]
    assert (len(cut), entry["train"]["rows"], entry["test"]["rows"]) == (2, train, test)
    assert len(entry["train"]["bad"] + entry["test"]["bad"]) == 12 - good
    assert [manifest["classes"][label] for label in (0, 2)] == [whole["classes"][label] for label in (0, 2)]


def test_a_link_to_nothing_is_skipped_by_name(folder: Path) -> None:
    (folder / "train" / "bee" / "zzz.png").symlink_to("/nowhere/gone.png")
    with pytest.raises(UserError, match=r"train/bee/zzz\.png: cannot be decoded \(it is a link to nothing"):
        finished(plan_of(folder))
    assert "link to nothing" in finished(plan_of(folder, on_bad_image="skip"))["classes"][1]["train"]["bad"][0]


def test_the_manifest_keeps_how_the_source_was_read(folder: Path) -> None:
    (folder / "train" / "ant" / "x.heic").write_bytes(b"x")
    plan = plan_of(folder)
    manifest = finished(plan)
    assert "source" in manifest
    assert manifest["source"] == plan.report
    assert manifest["source"]["left_out"] == [
        {"reason": "ending .heic", "count": 1, "unit": "file", "examples": ["train/ant/x.heic"]}
    ]


def test_the_seal_does_not_depend_on_how_the_source_was_read(folder: Path) -> None:
    before = finished(plan_of(folder))
    (folder / "train" / "ant" / "x.heic").write_bytes(b"x")
    after = finished(plan_of(folder))
    assert before["checksum"] != after["checksum"]
    assert seal_of(before) == seal_of(after) == sealed({k: v for k, v in before.items() if k != "source"})["checksum"]


def test_manifests_of_older_versions_keep_their_seals(folder: Path) -> None:
    plan = plan_of(folder)
    older = {key: value for key, value in finished(plan).items() if key != "source"}
    write_document(f"{plan.folder}/manifest.json", older)
    manifest = read_document(PreparedManifest, f"{plan.folder}/manifest.json")
    assert seal_of(manifest) == manifest["checksum"]


def test_wordnet_ids(tmp_path: Path) -> None:
    write_folder(tmp_path / "images", {"": 5}, classes=("n01440764", "tench"))
    manifest = finished(plan_of(tmp_path / "images"))
    assert [entry["wnid"] for entry in manifest["classes"]] == ["n01440764", ""]
