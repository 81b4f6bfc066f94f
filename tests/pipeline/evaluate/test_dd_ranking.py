"""Intervals, paired differences, DD-Ranking's scores, and the rows of evaluation.json."""

import math
from pathlib import Path
from typing import Any

import pytest

from m3d.config import ConfigError
from pipeline.evaluate.dd_ranking import label_robust_score, scores
from pipeline.evaluate.intervals import estimate, paired
from pipeline.evaluate.results import (
    Scored,
    held_row,
    is_evaluated,
    per_class,
    read_rows,
    row_of,
    training_for,
    write_rows,
)
from pipeline.evaluate.resume import Partial, key_of
from tests.pipeline.support.runs import small_config


def test_interval_of_students_t() -> None:
    # t(4) at 97.5 %: 2.776445; the standard deviation of 1 to 5 is sqrt(2.5).
    held = estimate([1.0, 2.0, 3.0, 4.0, 5.0])
    half = 2.776445 * math.sqrt(2.5 / 5)
    assert held.interval == pytest.approx((3 - half, 3 + half), rel=1e-6)
    assert (held.mean, held.std) == (3.0, pytest.approx(math.sqrt(2.5)))
    assert estimate([7.0]).interval is None


def test_paired_differences_are_by_seed() -> None:
    ours, theirs = {0: 50.0, 1: 60.0, 3: 1.0}, {1: 58.0, 0: 49.0, 2: 99.0}
    held = paired(ours, theirs)
    assert held is not None
    assert held.mean == 1.5
    assert held.interval is not None
    assert held.interval[0] == pytest.approx(1.5 - 12.7062 * math.sqrt(0.5) / math.sqrt(2), rel=1e-4)
    assert paired({0: 1.0}, {1: 1.0}) is None


def test_label_robust_score() -> None:
    # Worked out by hand from the definition: a = (0.3 - 0.4) / 2.
    assert label_robust_score(0.3, 0.4) == pytest.approx((math.exp(-0.05) - 1 / math.e) / (math.e - 1 / math.e))
    assert label_robust_score(1, -1) == pytest.approx(1)
    assert label_robust_score(-1, 1) == pytest.approx(0)
    assert label_robust_score(0, 0) == pytest.approx((1 - 1 / math.e) / (math.e - 1 / math.e))


def plain(name: str, mean: float, **other: Any) -> dict[str, Any]:
    row = {"set": name, "architecture": "convnet3", "protocol": "idc", "on": "test", "mean": mean, "seeds": [0, 1]}
    return {**row, "accuracies": [mean - 1, mean + 1], **other}


def test_scores_are_fractions_of_like_rows() -> None:
    rows = [
        plain("condensed", 60.0),
        plain("random", 20.0),
        plain("random", 30.0, architecture="mlp"),
        plain("whole", 80.0, protocol="pretrain"),
        plain("condensed", 50.0, augmentation="none"),
        plain("random", 25.0, augmentation="none"),
    ]
    found = scores(rows)
    assert [(one["augmentation"], one["ior"], one["hlr"]) for one in found] == [
        ("protocol", pytest.approx(0.4), pytest.approx(0.2)),
        ("none", pytest.approx(0.25), pytest.approx(0.3)),
    ]
    assert found[0]["lrs"] == pytest.approx(label_robust_score(0.4, 0.2))
    assert found[0]["ior_interval95"] == pytest.approx([0.4, 0.4])  # both seeds differ by the same
    (alone,) = scores([plain("condensed", 60.0)])
    assert (alone["accuracy"], alone["ior"], alone["hlr"], alone["lrs"]) == (0.6, None, None, None)


def test_hard_label_recovery_is_that_of_hard_labels() -> None:
    rows = [plain("whole", 80.0, protocol="pretrain"), plain("random", 20.0), plain("condensed", 70.0, labels="soft")]
    (alone,) = scores(rows)
    assert (alone["ior"], alone["hlr"], alone["lrs"]) == (pytest.approx(0.5), None, None)
    soft, hard = scores([*rows, plain("condensed", 60.0)])
    assert (soft["labels"], soft["ior"], soft["hlr"]) == ("soft", pytest.approx(0.5), pytest.approx(0.2))
    assert soft["lrs"] == pytest.approx(label_robust_score(0.5, 0.2))
    assert (hard["ior"], hard["hlr"]) == (pytest.approx(0.4), pytest.approx(0.2))


@pytest.mark.parametrize(
    "other",
    [{"epochs": 10}, {"condensed_set": "b"}, {"training": {"batch": 8}}, {"flip": False}, {"class_shards": "y"}],
)
def test_rows_of_another_training_or_set_are_no_pair(other: dict[str, Any]) -> None:
    same = {"epochs": 100, "condensed_set": "a", "training": {"batch": 64}, "flip": True, "class_shards": "x"}
    (found,) = scores([plain("condensed", 60.0, **same), plain("random", 20.0, **{**same, **other})])
    assert (found["ior"], found["ior_interval95"]) == (None, None)
    (found,) = scores([plain("condensed", 60.0, **same), plain("random", 20.0, **same)])
    assert found["ior"] == pytest.approx(0.4)


def test_an_improvement_is_over_the_seeds_that_both_have() -> None:
    ours = plain("condensed", 60.0, seeds=[0, 1, 2], accuracies=[50.0, 60.0, 99.0])
    random = plain("random", 20.0, seeds=[0, 1], accuracies=[20.0, 20.0])
    (found,) = scores([ours, random])
    assert found["ior"] == pytest.approx(0.35)
    assert sum(found["ior_interval95"]) / 2 == pytest.approx(0.35)
    assert found["ior_interval95"][1] > found["ior_interval95"][0] + 0.1


def scored(*matrix: list[int], best: float | None = None) -> Scored:
    right = sum(line[i] for i, line in enumerate(matrix))
    accuracy = 100 * right / sum(map(sum, matrix))
    return Scored(accuracy=accuracy, confusion=[*matrix], best=best, precision="float32", compiled=False)


def test_a_row_says_everything(tmp_path: Path) -> None:
    config = small_config("evaluate.best_epoch=5")
    found = {1: scored([3, 1], [2, 2], best=70.0), 0: scored([4, 0], [1, 3], best=90.0)}
    row = row_of(config, "condensed", "convnet1", found, classes=2, images=8, condensed_set="s")
    assert row["seeds"] == [0, 1]
    assert row["accuracies"] == [87.5, 62.5]
    assert row["confusion"] == [[7, 1], [3, 5]]
    assert row["per_class"] == per_class([[7, 1], [3, 5]]) == [87.5, 62.5]
    assert row["mean"] == 75.0
    assert row["interval95"] == pytest.approx([75 - 12.7062 * 12.5, 75 + 12.7062 * 12.5], rel=1e-4)
    assert row["best_epoch_compatibility"]["mean"] == 80.0
    assert row["training"]["learning_rate"] == 0.01
    assert row["training"]["augment"]["strategy"] == "color_crop_scale_rotate"
    assert (row["epoch"], row["augmentation"], row["labels"]) == ("last", "protocol", "hard")
    write_rows(str(tmp_path), [row])
    assert read_rows(str(tmp_path)) == [row]
    lines = (tmp_path / "evaluation.json").read_text().splitlines()
    assert sum("[7, 1]" in line for line in lines) == 1  # a line per class


def test_rows_with_and_without_augmentation_stand_beside_each_other(tmp_path: Path) -> None:
    write_rows(str(tmp_path), [plain("condensed", 60.0), plain("condensed", 50.0, augmentation="none")])
    write_rows(str(tmp_path), [plain("condensed", 61.0)])
    assert [row["mean"] for row in read_rows(str(tmp_path))] == [50.0, 61.0]


@pytest.mark.parametrize(
    "other",
    ["epochs=6", "flip=true", "augment=none", "best_epoch=2", "protocol=dm", "seeds=3"],
)
def test_a_row_answers_for_its_own_training_only(tmp_path: Path, other: str) -> None:
    config = small_config()
    found = {seed: scored([1, 0], [0, 1]) for seed in (0, 1)}
    write_rows(str(tmp_path), [row_of(config, "condensed", "convnet1", found, classes=2, condensed_set="s")])
    assert held_row(config, str(tmp_path), "condensed", "convnet1", {"condensed_set": "s"}) is not None
    assert held_row(config, str(tmp_path), "condensed", "convnet1", {"condensed_set": "t"}) is None
    assert (
        held_row(small_config(f"evaluate.{other}"), str(tmp_path), "condensed", "convnet1", {"condensed_set": "s"})
        is None
    )


def test_a_row_of_an_older_version_answers(tmp_path: Path) -> None:
    config = small_config("evaluate.sets=condensed")
    row = plain("condensed", 60.0, architecture="convnet1", epochs=5, flip=False, condensed_set="s")
    write_rows(str(tmp_path), [row])
    assert is_evaluated(config, str(tmp_path), {"condensed_set": "s"})
    assert not is_evaluated(
        small_config("evaluate.augment=none", "evaluate.sets=condensed"), str(tmp_path), {"condensed_set": "s"}
    )


def test_the_row_of_the_whole_set_has_a_protocol_of_its_own(tmp_path: Path) -> None:
    config = small_config("evaluate.sets=whole")
    assert not is_evaluated(config, str(tmp_path), {"condensed_set": "s"})
    write_rows(str(tmp_path), [plain("whole", 90.0, architecture="convnet1", protocol="pretrain", seeds=[0])])
    assert is_evaluated(config, str(tmp_path), {"condensed_set": "s"})


def test_imagenets_epochs_follow_from_the_views() -> None:
    config = small_config("evaluate.protocol=imagenet", "evaluate.epochs=null", "condense.images_per_class=10")
    assert training_for(config, 10).epochs == 1500  # 40 views
    assert training_for(config, 100).epochs == 1000
    assert training_for(small_config("evaluate.protocol=imagenet"), 10).epochs == 5


def test_unknown_sets_are_refused() -> None:
    with pytest.raises(Exception, match="k_center") as told:
        small_config("evaluate.sets=kcenter")
    assert not isinstance(told.value, ConfigError)


def test_partial_scores_are_kept_until_their_row_is_written(tmp_path: Path) -> None:
    one, other = key_of({"set": "a"}), key_of({"set": "b"})
    kept = Partial(str(tmp_path))
    kept.add(one, {0: scored([1, 0], [0, 1])})
    kept.add(other, {3: scored([1, 0], [1, 0], best=50.0)})
    again = Partial(str(tmp_path))
    assert again.scored(one) == {0: scored([1, 0], [0, 1])}
    assert again.scored(other)[3].best == 50.0
    again.drop(one)
    assert Partial(str(tmp_path)).scored(one) == {}
    again.drop(other)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_partial_file_costs_its_work_only(tmp_path: Path) -> None:
    key = key_of({"set": "a"})
    Partial(str(tmp_path)).add(key, {0: scored([1, 0], [0, 1])})
    (file,) = tmp_path.iterdir()
    file.write_text(file.read_text().replace("100.0", "99.0"))
    assert Partial(str(tmp_path)).scored(key) == {}
