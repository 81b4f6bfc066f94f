"""What the page says about accuracies."""

from typing import Any

import pytest

from pipeline.evaluate.results import summary
from pipeline.evaluate.rows import EvaluationRow, with_defaults
from pipeline.workflow.report.accuracy import accuracies, verdict
from tests.pipeline.support.rows import stored_row


def row(name: str, values: list[float], **changes: Any) -> EvaluationRow:
    """A row with the accuracies of some seeds."""
    found: dict[str, Any] = {**summary(values), "seeds": list(range(len(values))), **changes}
    return with_defaults(stored_row(name, found.pop("mean"), **found))


@pytest.mark.parametrize(
    ("condensed", "random", "expected", "good"),
    [
        ([60.0, 62.0, 61.0], [40.0, 41.0, 40.0], "20.7 points above as many random real images (40.3 %): the set is better", True),
        ([30.0, 31.0, 30.0], [40.0, 41.0, 41.0], "10.3 points below as many random real images (40.7 %): the set is worse", False),
        ([37.5, 22.5, 52.5], [37.5, 52.5, 22.5], "as many random real images (37.5 %) reach the same. It may be chance", False),
        ([50.0], [40.0], "10.0 points above as many random real images (40.0 %); single networks cannot tell", False),
    ],
)  # fmt: skip
def test_the_verdict_beside_random_images(
    condensed: list[float], random: list[float], expected: str, good: bool
) -> None:
    found = verdict([row("condensed", condensed), row("random", random)], 10)
    assert expected in " ".join(found.sentences)
    assert found.good is good


def test_the_verdict_names_a_better_baseline_guessing_and_the_full_training_set() -> None:
    rows = [
        row("condensed", [12.0, 13.0]),
        row("random", [11.0, 10.0]),
        row("herding", [20.0, 21.0]),
        row("whole", [90.0]),
    ]
    found = verdict(rows, 10)
    text = " ".join(found.sentences)
    assert not found.good
    assert "The baseline herding reaches more: 20.5 %" in text
    assert "Guessing would reach 10 %" in text
    assert "All training images reach 90.0 %" in text


def test_with_few_classes_a_set_may_be_good_below_one_and_a_half_times_guessing() -> None:
    rows = [row("condensed", [70.0, 71.0, 70.0]), row("random", [60.0, 61.0, 60.0])]
    assert verdict(rows, 2).good
    assert not verdict([row("condensed", [54.0, 54.5, 54.0]), row("random", [50.0, 50.5, 50.0])], 2).good


def test_networks_scored_on_other_images_do_not_stand_beside_the_set() -> None:
    rows = [row("condensed", [30.0, 50.0], on="validation"), row("whole", [80.0], on="test")]
    assert "All training images" not in " ".join(verdict(rows, 10).sentences)
    (group,) = accuracies(rows, 10).groups
    assert [bar.set for bar in group.bars] == ["condensed"]


def test_without_a_condensed_row_or_random_images_the_verdict_says_so() -> None:
    assert "not evaluated yet" in verdict([row("random", [1.0])], 10).sentences[0]
    assert "not compared with random real images" in verdict([row("condensed", [50.0])], 10).sentences[1]


def test_one_network_has_no_deviation() -> None:
    section = accuracies([row("condensed", [50.0])], 10)
    (bar,) = section.groups[0].bars
    assert bar.text == "50.0 %, one network"
    assert bar.whisker is None
    assert section.lines[0].cells[-3:-1] == ["-", "-"]
    assert "one network shows no spread" in section.notes[0]


def test_bars_have_one_scale_and_the_full_training_set_stands_beside_them() -> None:
    section = accuracies([row("condensed", [30.0, 50.0]), row("whole", [80.0], protocol="pretrain")], 10)
    (group,) = section.groups
    assert [bar.set for bar in group.bars] == ["condensed", "whole"]
    assert group.top == 100  # the interval of two networks is wide
    assert [bar.width for bar in group.bars] == [40.0, 80.0]
    assert group.bars[0].dots == [30.0, 50.0]
    assert group.bars[0].whisker == (0.0, 100.0)
    assert group.chance == 10.0
