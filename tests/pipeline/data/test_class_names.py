"""Classes of a source that are chosen by a published list or by name, and what is ambiguous."""

from pathlib import Path

import pytest

from pipeline.config.imagenet_subsets import subset
from pipeline.config.run_config import Data
from pipeline.data.class_names import chosen, described, distinct, leading_wnid, read_synsets
from pipeline.data.shard_plan import plan_shards
from pipeline.errors import UserError
from tests.pipeline.support.images import write_folder

WOOF = [wnid for wnid, _ in subset("imagewoof")]
CRANES = (("n02012849", "crane"), ("n03126707", "crane"), ("n01440764", "tench, Tinca tinca"))


def refusal(*arguments: object) -> str:
    """The one-line message with which a choice is refused."""
    with pytest.raises(UserError) as caught:
        chosen(*arguments)  # type: ignore[arg-type]
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def test_a_subset_is_found_by_wnid_in_its_order(tmp_path: Path) -> None:
    write_folder(tmp_path / "images", {"train": 3, "test": 1}, classes=[*sorted(WOOF), "n01440764"])
    plan = plan_shards(Data(source="image_folder", path=str(tmp_path / "images"), subset="imagewoof"), str(tmp_path))
    assert list(plan.names) == list(plan.wnids) == WOOF
    assert plan.titles == tuple(title for _, title in subset("imagewoof"))
    assert [plan.source_names[label] for label in plan.source_labels] == WOOF


@pytest.mark.parametrize("style", ["{wnid}_{title}", "{wnid} {title}", "{title}"])
def test_a_subset_is_found_by_names(style: str) -> None:
    source_names = sorted(style.format(wnid=wnid, title=title.upper()) for wnid, title in subset("imagewoof"))
    positions = chosen(described(source_names, "imagewoof", None), None, "imagewoof", "here")
    assert [source_names[position].lower() for position in positions] == [
        style.format(wnid=wnid, title=title.lower()) for wnid, title in subset("imagewoof")
    ]


def test_a_folder_with_a_common_name_does_not_become_imagenets_class() -> None:
    assert described(["lion", "n02129165"], None, None)[0].wnid == ""
    assert described(["lion", "n02129165"], None, None)[1].title == "lion"


def test_integer_labels_are_lines_of_the_synsets() -> None:
    classes = described(["0", "1", "2"], None, CRANES)
    assert [(entry.wnid, entry.title) for entry in classes] == list(CRANES)
    assert chosen(classes, ["tench"], None, "here") == (2,)
    assert chosen(classes, ["n03126707", "0"], None, "here") == (1, 0)


def test_a_name_that_may_be_two_classes_is_refused_with_the_choices() -> None:
    message = refusal(described([wnid for wnid, _ in CRANES], None, CRANES), ["crane"], None, "here")
    assert "'crane' may be n02012849 (crane) or n03126707 (crane)" in message


def test_two_names_of_one_class_are_refused() -> None:
    classes = described([wnid for wnid, _ in CRANES], None, CRANES)
    assert "names of one class" in refusal(classes, ["tench", "n01440764"], None, "here")


def test_a_missing_class_of_a_subset_is_named() -> None:
    message = refusal(described(WOOF[1:], "imagewoof", None), None, "imagewoof", "here")
    assert "n02096294 (Australian terrier) of imagewoof not found in here" in message
    assert "data.synsets" in refusal(described(["a", "b"], "imagewoof", None), None, "imagewoof", "here")


def test_titles_that_are_shared_get_their_wnid() -> None:
    assert distinct(["crane", "tench", "crane"], ["n1", "n2", "n3"]) == ("crane (n1)", "tench", "crane (n3)")


def test_synsets_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "synsets.txt"
    path.write_text("n01440764 tench, Tinca tinca\n\nn01443537\n")
    assert read_synsets(str(path)) == (("n01440764", "tench, Tinca tinca"), ("n01443537", "n01443537"))
    path.write_text("tench\n")
    with pytest.raises(UserError, match="line 1"):
        read_synsets(str(path))
    with pytest.raises(UserError, match="is not a text file"):
        read_synsets(str(tmp_path / "absent"))


def test_synsets_may_be_separated_by_tabs(tmp_path: Path) -> None:
    file = tmp_path / "words.txt"
    file.write_text("n01440764\ttench, Tinca tinca\n\nn02102040\n")
    assert read_synsets(str(file)) == (("n01440764", "tench, Tinca tinca"), ("n02102040", "n02102040"))


@pytest.mark.parametrize(("name", "wnid"), [("n01440764", "n01440764"), ("n1", ""), ("dog", ""), ("n014407640", "")])
def test_wnid(name: str, wnid: str) -> None:
    assert leading_wnid(name) == wnid
