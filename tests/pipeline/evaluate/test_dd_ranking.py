"""DD-Ranking's scores."""

import math
from typing import Any

import pytest

from pipeline.evaluate.dd_ranking import key_of, label_robust_score, scores
from pipeline.evaluate.rows import RowKey
from tests.pipeline.support.rows import stored_row


def test_label_robust_score() -> None:
    # Computed by hand from the definition: a = (0.3 - 0.4) / 2.
    assert label_robust_score(0.3, 0.4) == pytest.approx((math.exp(-0.05) - 1 / math.e) / (math.e - 1 / math.e))
    assert label_robust_score(1, -1) == pytest.approx(1)
    assert label_robust_score(-1, 1) == pytest.approx(0)
    assert label_robust_score(0, 0) == pytest.approx((1 - 1 / math.e) / (math.e - 1 / math.e))


def test_scores_are_fractions_of_comparable_rows() -> None:
    rows = [
        stored_row("condensed", 60.0),
        stored_row("random", 20.0),
        stored_row("random", 30.0, architecture="mlp"),
        stored_row("whole", 80.0, protocol="pretrain"),
        stored_row("condensed", 50.0, augmentation="none"),
        stored_row("random", 25.0, augmentation="none"),
    ]
    ranked = scores(rows)
    assert [(score["augmentation"], score["ior"], score["hlr"]) for score in ranked] == [
        ("protocol", pytest.approx(0.4), pytest.approx(0.2)),
        ("none", pytest.approx(0.25), pytest.approx(0.3)),
    ]
    assert ranked[0]["lrs"] == pytest.approx(label_robust_score(0.4, 0.2))
    assert ranked[0]["ior_interval95"] == pytest.approx([0.4, 0.4])  # both seeds differ by the same
    assert [key_of(score) for score in ranked] == [RowKey.of(rows[0]), RowKey.of(rows[4])]
    (alone,) = scores([stored_row("condensed", 60.0)])
    assert (alone["accuracy"], alone["ior"], alone["hlr"], alone["lrs"]) == (0.6, None, None, None)


def test_hard_label_recovery_uses_hard_labels() -> None:
    rows = [
        stored_row("whole", 80.0, protocol="pretrain"),
        stored_row("random", 20.0),
        stored_row("condensed", 70.0, labels="soft"),
    ]
    (alone,) = scores(rows)
    assert (alone["ior"], alone["hlr"], alone["lrs"]) == (pytest.approx(0.5), None, None)
    soft, hard = scores([*rows, stored_row("condensed", 60.0)])
    assert (soft["labels"], soft["ior"], soft["hlr"]) == ("soft", pytest.approx(0.5), pytest.approx(0.2))
    assert soft["lrs"] == pytest.approx(label_robust_score(0.5, 0.2))
    assert (hard["ior"], hard["hlr"]) == (pytest.approx(0.4), pytest.approx(0.2))


@pytest.mark.parametrize(
    "other",
    [{"epochs": 10}, {"condensed_set": "b"}, {"training": {"batch": 8}}, {"flip": False}, {"class_shards": "y"}],
)
def test_rows_of_another_training_or_set_are_not_compared(other: dict[str, Any]) -> None:
    same = {"epochs": 100, "condensed_set": "a", "training": {"batch": 64}, "flip": True, "class_shards": "x"}
    (score,) = scores([stored_row("condensed", 60.0, **same), stored_row("random", 20.0, **{**same, **other})])
    assert (score["ior"], score["ior_interval95"]) == (None, None)
    (score,) = scores([stored_row("condensed", 60.0, **same), stored_row("random", 20.0, **same)])
    assert score["ior"] == pytest.approx(0.4)


def test_an_improvement_is_over_the_shared_seeds() -> None:
    ours = stored_row("condensed", 60.0, seeds=[0, 1, 2], accuracies=[50.0, 60.0, 99.0])
    random = stored_row("random", 20.0, seeds=[0, 1], accuracies=[20.0, 20.0])
    (score,) = scores([ours, random])
    assert score["ior"] == pytest.approx(0.35)
    interval = score["ior_interval95"]
    assert interval is not None
    assert sum(interval) / 2 == pytest.approx(0.35)
    assert interval[1] > interval[0] + 0.1
