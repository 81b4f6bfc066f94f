"""The data card: its header is YAML that the hub reads, and names of others do no harm in it."""

import re
from typing import Any, cast

import pytest
import yaml

from pipeline.evaluate.rows import EvaluationRow
from pipeline.exports.about import About
from pipeline.exports.card import CardFacts, card
from tests.pipeline.support.rows import stored_row


def about(**changes: Any) -> About:
    """What m3d.json says of a set of two classes."""
    classes = [{"label": label, "name": name, "wnid": ""} for label, name in enumerate(("ant", "bee"))]
    content: Any = {
        **{"format": 1, "exported_as": "hub", "name": "insects", "licence": "CC-BY-4.0", "classes": classes},
        **{"images_per_class": 8, "shape": (3, 32, 32), "factor": 1, "mean": [0.5] * 3, "std": [0.2] * 3},
        **{"versions": {"torch": "2.15.0"}, "commit": "abc", "condensed_set": "0" * 64},
    }
    return cast(About, {**content, **changes})


def made(*rows: EvaluationRow, command: str | None = "python -m pipeline run --out runs/again", **changes: Any) -> str:
    """A card."""
    facts = CardFacts(
        about=about(**changes), command=command, source="idc", stored=2, factor=2, rounding="Rounded.", rows=rows
    )
    return card(facts)


def header(text: str) -> Any:
    """The parsed header of a card."""
    found = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)
    assert found is not None
    return yaml.safe_load(found[1])


def test_header_has_what_the_hub_searches() -> None:
    parsed = header(made())
    assert parsed["license"] == "cc-by-4.0"
    assert parsed["task_categories"] == ["image-classification"]
    assert parsed["size_categories"] == ["n<1K"]
    assert {"dataset-distillation", "ipc-2"} <= set(parsed["tags"])
    assert parsed["pretty_name"] == "insects, condensed to 2 images per class"
    assert parsed["dataset_info"]["features"][1]["dtype"]["class_label"]["names"] == {"0": "ant", "1": "bee"}


@pytest.mark.parametrize(
    ("licence", "expected"),
    [
        (None, {"license": "unknown"}),
        ("MIT", {"license": "mit"}),
        ("ask Ann", {"license": "other", "license_name": "ask Ann"}),
    ],
)
def test_licences(licence: str | None, expected: dict[str, str]) -> None:
    parsed = header(made(licence=licence))
    assert {key: parsed[key] for key in ("license", "license_name") if key in parsed} == expected


def test_accuracies_stand_beside_random_images_with_their_spread() -> None:
    rows = [
        stored_row("condensed", 95.0, std=1.414, labels="hard"),
        stored_row("random", 76.0, std=6.2, labels="hard"),
        stored_row("mosaic", 80.0, std=1.0, labels="hard"),
    ]
    text = made(*rows)
    assert "| network | protocol | this set | random real images |\n" in text
    assert "| convnet3 | idc, hard labels, 2 networks, test images | 95.0 ± 1.4 | 76.0 ± 6.2 |" in text
    assert "80.0" not in text


def test_all_real_images_have_a_column_if_they_were_trained_on() -> None:
    whole = stored_row("whole", 99.0, std=0.1, labels="hard", protocol="pretrain")
    text = made(stored_row("condensed", 95.0, std=1.4, labels="hard"), whole)
    assert "| convnet3 | idc, hard labels, 2 networks, test images | 95.0 ± 1.4 |  | 99.0 ± 0.1 |" in text


def test_one_network_has_no_deviation() -> None:
    row = stored_row("condensed", 95.0, std=0.0, labels="hard", seeds=[0])
    assert "95.0 (1 network)" in made({**row, "accuracies": [95.0]})


def test_without_an_evaluation_it_says_so() -> None:
    assert "Not measured yet" in made()


def test_a_set_of_unknown_making_has_no_command() -> None:
    text = made(command=None)
    assert "Imported from a file of the format `idc`" in text
    assert "```bash" not in text


def test_names_of_others_stay_text() -> None:
    names = ("a|b\n# title", "<img src=x>", "---\nlicense: mit", "[x](http://a)", "'quoted': \"yes\"")
    classes = [{"label": label, "name": name, "wnid": ""} for label, name in enumerate(names)]
    text = made(classes=classes, name="<b>*photos*\x1b[31m")
    parsed = header(text)
    assert list(parsed["dataset_info"]["features"][1]["dtype"]["class_label"]["names"].values()) == list(names)
    assert parsed["license"] == "cc-by-4.0"
    body = text[text.index("\n---\n\n") :]
    assert "<img" not in body.replace("\\<img", "")
    assert "\x1b" not in body
    rows = [line for line in text.splitlines() if line.startswith("| 0 |")]
    assert rows == ["| 0 | a\\|b \\# title |  |"]
    assert "\\[x\\](http://a)" in text


def test_classes_are_listed_in_the_order_of_their_labels() -> None:
    lines = [line for line in made().splitlines() if line.startswith(("| 0 |", "| 1 |"))]
    assert lines == ["| 0 | ant |  |", "| 1 | bee |  |"]
