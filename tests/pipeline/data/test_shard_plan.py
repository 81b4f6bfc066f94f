"""Plans of class shards: the classes, the key, the tasks, and messages for what is refused."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.data.prepare import require_per_class
from pipeline.data.shard_builder import make_shards
from pipeline.data.shard_plan import chunks, unfinished
from pipeline.errors import UserError
from tests.pipeline.support.images import encoded, picture, write_folder
from tests.pipeline.support.shards import plan_of


def test_unknown_class(folder: Path) -> None:
    with pytest.raises(UserError, match=r"data\.classes: dog not found in .*images; it has ant, bee, cat"):
        plan_of(folder, classes=("cat", "dog"))


def test_class_without_test_images(folder: Path) -> None:
    write_folder(folder, {"train": 3}, classes=("dog",))
    with pytest.raises(UserError, match=r"without test images: dog; .*data\.classes"):
        plan_of(folder)
    assert plan_of(folder, classes=("ant", "bee")).names == ("ant", "bee")


def test_class_too_small_to_be_cut(tmp_path: Path) -> None:
    write_folder(tmp_path / "images", {"": 2})
    with pytest.raises(UserError, match=r"without test images: ant, bee, cat.*data\.test_fraction"):
        plan_of(tmp_path / "images")


def test_unfinished(folder: Path) -> None:
    plan = plan_of(folder)
    assert unfinished(plan) == [0, 1, 2]
    make_shards(plan, [1])
    assert unfinished(plan) == [0, 2]
    Path(plan.folder, "test-00001.json").unlink()
    assert unfinished(plan) == [0, 1, 2]
    make_shards(plan, unfinished(plan))
    assert unfinished(plan) == []


@pytest.mark.parametrize(
    "changed",
    [{"image_size": 16}, {"classes": ("ant", "bee")}, {"classes": ("bee", "ant", "cat")}, {"channels": 1}],
    ids=str,
)
def test_key_changes_with_what_the_pixels_depend_on(folder: Path, changed: dict[str, Any]) -> None:
    assert plan_of(folder, **changed).folder != plan_of(folder).folder


def test_key_changes_with_the_split_only_if_it_is_cut(folder: Path, tmp_path: Path) -> None:
    uncut = write_folder(tmp_path / "other", {"": 10})
    changes: list[dict[str, Any]] = [{"split_seed": 1}, {"test_fraction": 0.3}]
    for changed in changes:
        assert plan_of(folder, **changed).folder == plan_of(folder).folder
        assert plan_of(uncut, **changed).folder != plan_of(uncut).folder


@pytest.mark.parametrize(
    "unrelated", [{"validation_fraction": 0.2}, {"cache": "/elsewhere"}, {"download": True}], ids=str
)
def test_key_does_not_change_with_what_is_unrelated(folder: Path, unrelated: dict[str, Any]) -> None:
    assert plan_of(folder, **unrelated).folder == plan_of(folder).folder


def test_key_changes_with_the_content_of_the_source(folder: Path) -> None:
    before = plan_of(folder).folder
    (folder / "train" / "ant" / "000.png").write_bytes(encoded(picture(77, 13, 12)))
    assert plan_of(folder).folder != before


def test_key_changes_with_content_of_the_same_length(tmp_path: Path) -> None:
    file = tmp_path / "images" / "ant" / "0.bmp"
    file.parent.mkdir(parents=True)
    for i in range(5):
        file.with_name(f"{i}.bmp").write_bytes(encoded(picture(i), "BMP"))
    before = plan_of(tmp_path / "images").folder
    file.write_bytes(encoded(picture(99), "BMP"))
    assert plan_of(tmp_path / "images").folder != before


@pytest.mark.parametrize(("tasks", "sizes"), [(1, [3]), (2, [2, 1]), (3, [1, 1, 1]), (8, [1, 1, 1])])
def test_chunks(folder: Path, tasks: int, sizes: list[int]) -> None:
    made_chunks = chunks(plan_of(folder), [0, 1, 2], tasks)
    assert [len(chunk) for chunk in made_chunks] == sizes
    assert [label for chunk in made_chunks for label in chunk] == [0, 1, 2]


def test_chunks_are_bounded_by_their_bytes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.data.shard_plan.CHUNK_BYTES", 2 * 16 * 3 * 12 * 12)
    assert chunks(plan_of(folder), [0, 1, 2], 1) == [[0, 1], [2]]
    assert chunks(plan_of(folder), [], 4) == []


def test_the_first_image_may_be_bad(folder: Path) -> None:
    (folder / "train" / "ant" / "000.png").write_bytes(b"")
    assert plan_of(folder, on_bad_image="skip").channels == 3


def test_require_per_class(folder: Path) -> None:
    for i in range(9):
        (folder / "train" / "bee" / f"{i:03d}.png").unlink()
    plan = plan_of(folder)
    counts = dict(zip(plan.names, plan.counts["train"], strict=True))
    require_per_class(counts, 3, 0.0, "why")
    with pytest.raises(UserError) as caught:
        require_per_class(counts, 4, 0.0, "images_per_class 1 x factor 2^2")
    message = str(caught.value)
    for part in ("'bee'", "3 training images", "needed 4", "images_per_class 1 x factor 2^2", "condense.factor"):
        assert part in message
    with pytest.raises(UserError, match="has 2 training images"):
        require_per_class(counts, 3, 0.3, "why")
