"""Classes of a source that are chosen by a published list or by name, and what is ambiguous."""

from pathlib import Path

import pytest

from pipeline.config.imagenet_subsets import subset
from pipeline.config.run_config import Data
from pipeline.data.class_names import chosen, described, distinct, read_synsets
from pipeline.data.shard_plan import plan_shards
from pipeline.errors import UserError
from tests.pipeline.support.images import write_folder

WOOF = [wnid for wnid, _ in subset("imagewoof")]
CRANES = (("n02012849", "crane"), ("n03126707", "crane"), ("n01440764", "tench, Tinca tinca"))


def refusal(*arguments: object) -> str:
    """The one line of a choice that is refused."""
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
    held = sorted(style.format(wnid=wnid, title=title.upper()) for wnid, title in subset("imagewoof"))
    found = chosen(described(held, "imagewoof", None), None, "imagewoof", "here")
    assert [held[place].lower() for place in found] == [
        style.format(wnid=wnid, title=title.lower()) for wnid, title in subset("imagewoof")
    ]


def test_a_folder_with_a_common_name_is_not_made_imagenets() -> None:
    assert described(["lion", "n02129165"], None, None)[0].wnid == ""
    assert described(["lion", "n02129165"], None, None)[1].title == "lion"


def test_integer_labels_are_lines_of_the_synsets() -> None:
    found = described(["0", "1", "2"], None, CRANES)
    assert [(one.wnid, one.title) for one in found] == list(CRANES)
    assert chosen(found, ["tench"], None, "here") == (2,)
    assert chosen(found, ["n03126707", "0"], None, "here") == (1, 0)


def test_a_name_that_may_be_two_classes_is_refused_with_the_choices() -> None:
    told = refusal(described([wnid for wnid, _ in CRANES], None, CRANES), ["crane"], None, "here")
    assert "'crane' may be n02012849 (crane) or n03126707 (crane)" in told


def test_two_names_of_one_class_are_refused() -> None:
    found = described([wnid for wnid, _ in CRANES], None, CRANES)
    assert "names of one class" in refusal(found, ["tench", "n01440764"], None, "here")


def test_a_missing_class_of_a_subset_is_named() -> None:
    told = refusal(described(WOOF[1:], "imagewoof", None), None, "imagewoof", "here")
    assert "n02096294 (Australian terrier) of imagewoof not found in here" in told
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


def test_synsets_may_be_cut_by_tabs(tmp_path: Path) -> None:
    file = tmp_path / "words.txt"
    file.write_text("n01440764\ttench, Tinca tinca\n\nn02102040\n")
    assert read_synsets(str(file)) == (("n01440764", "tench, Tinca tinca"), ("n02102040", "n02102040"))
