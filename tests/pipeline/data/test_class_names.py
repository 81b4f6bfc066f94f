"""Classes of a source that are chosen by a published list or by name, and what is ambiguous."""

from pathlib import Path

import pytest

from pipeline.config.imagenet_subsets import subset
from pipeline.config.run_config import Data
from pipeline.data.class_names import Synsets, chosen, described, distinct, leading_wnid, read_synsets
from pipeline.data.shard_plan import plan_shards
from pipeline.errors import UserError
from tests.pipeline.support.images import write_folder

WOOF = [wnid for wnid, _ in subset("imagewoof")]
CRANES = (("n02012849", "crane"), ("n03126707", "crane"), ("n01440764", "tench, Tinca tinca"))


SYNSETS = Synsets(path="somewhere/synsets.txt", entries=dict(enumerate(CRANES)))


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
    classes = described(["0", "1", "2"], None, SYNSETS)
    assert [(entry.wnid, entry.title) for entry in classes] == list(CRANES)
    assert chosen(classes, ["tench"], None, "here") == (2,)
    assert chosen(classes, ["n03126707", "0"], None, "here") == (1, 0)


def test_a_name_that_may_be_two_classes_is_refused_with_the_choices() -> None:
    message = refusal(described([wnid for wnid, _ in CRANES], None, SYNSETS), ["crane"], None, "here")
    assert "'crane' may be n02012849 (crane) or n03126707 (crane)" in message


def test_two_names_of_one_class_are_refused() -> None:
    classes = described([wnid for wnid, _ in CRANES], None, SYNSETS)
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
    assert read_synsets(str(path)).entries == {0: ("n01440764", "tench, Tinca tinca"), 1: ("n01443537", "n01443537")}
    path.write_text("tench\n")
    with pytest.raises(UserError, match="line 1"):
        read_synsets(str(path))
    with pytest.raises(UserError, match="is not a text file"):
        read_synsets(str(tmp_path / "absent"))


def test_synsets_may_be_separated_by_tabs(tmp_path: Path) -> None:
    file = tmp_path / "words.txt"
    file.write_text("n01440764\ttench, Tinca tinca\n\nn02102040\n")
    assert read_synsets(str(file)).entries == {0: ("n01440764", "tench, Tinca tinca"), 1: ("n02102040", "n02102040")}


@pytest.mark.parametrize("text", ["n02119789 1 kit_fox\nn02100735 2 English_setter\n", "n02100735 2\n\nn02119789 1\n"])
def test_synsets_with_numbers_in_the_second_column(tmp_path: Path, text: str) -> None:
    (tmp_path / "map_clsloc.txt").write_text(text)
    synsets = read_synsets(str(tmp_path / "map_clsloc.txt"))
    assert [entry.wnid for entry in described(["1", "2"], None, synsets)] == ["n02119789", "n02100735"]
    assert "label 3 is no number of map_clsloc.txt (1 to 2)" in refused_labels(["1", "3"], synsets)
    assert "labels 0, 3 are no number of map_clsloc.txt (1 to 2)" in refused_labels(["0", "1", "3"], synsets)


def test_a_name_that_begins_with_a_number_is_no_number(tmp_path: Path) -> None:
    (tmp_path / "synsets.txt").write_text("n01440764 tench\nn02690373 747 airliner\n")
    assert read_synsets(str(tmp_path / "synsets.txt")).entries[1] == ("n02690373", "747 airliner")


def test_a_number_of_two_synsets(tmp_path: Path) -> None:
    (tmp_path / "map.txt").write_text("n01440764 1 tench\nn02690373 1 airliner\n")
    with pytest.raises(UserError, match="the number 1 twice, for n01440764 and n02690373"):
        read_synsets(str(tmp_path / "map.txt"))


def refused_labels(names: list[str], synsets: Synsets = SYNSETS) -> str:
    """The one-line message with which the classes of a source are refused."""
    with pytest.raises(UserError) as caught:
        described(names, None, synsets)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["1", "2", "3"], "label 3 is no line of synsets.txt (0 to 2); labels seem to begin at 1"),
        (["001", "003"], "label 3 is no line of synsets.txt (0 to 2); labels seem to begin at 1"),
        (["0", "1", "1000"], "label 1000 is no line of synsets.txt (0 to 2)"),
        (["0", "-1"], "label -1 is no line of synsets.txt (0 to 2)"),
        (["1", "2"], "counted from 0 or from 1: label 1 is n03126707 crane or n02012849 crane"),
    ],
)
def test_labels_that_are_no_lines_of_the_synsets(names: list[str], message: str) -> None:
    refused = refused_labels(names)
    assert message in refused
    assert ("begin at 1" in refused) == ("begin at 1" in message)


def test_a_run_with_labels_from_1_is_refused(tmp_path: Path) -> None:
    write_folder(tmp_path / "images", {"": 6}, classes=("1", "2", "3"))
    synsets = tmp_path / "synsets.txt"
    synsets.write_text("n01440764 tench\nn01443537 goldfish\nn01484850 great white shark\n")
    data = Data(source="image_folder", path=str(tmp_path / "images"), image_size=12, synsets=str(synsets))
    with pytest.raises(UserError, match=r"label 3 is no line of synsets\.txt \(0 to 2\); labels seem to begin at 1"):
        plan_shards(data, str(tmp_path / "cache"))
    synsets.write_text("n01440764 1 tench\nn01443537 2 goldfish\nn01484850 3 great white shark\n")
    assert plan_shards(data, str(tmp_path / "cache")).titles == ("tench", "goldfish", "great white shark")


@pytest.mark.parametrize(("name", "wnid"), [("n01440764", "n01440764"), ("n1", ""), ("dog", ""), ("n014407640", "")])
def test_wnid(name: str, wnid: str) -> None:
    assert leading_wnid(name) == wnid
