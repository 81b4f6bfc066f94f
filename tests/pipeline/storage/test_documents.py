"""Sealed JSON documents: round trips, damage, and keys of other versions."""

import json
from pathlib import Path

import pytest

from pipeline.errors import UserError
from pipeline.storage.documents import (
    Document,
    checked,
    parsed,
    read_document,
    sealed,
    write_compact_document,
    write_document,
)


class Inner(Document):
    """A nested document."""

    size: int


class Outer(Inner):
    """A document that extends another."""

    parts: list[Inner]
    share: float


OUTER = {"size": 3, "parts": [{"size": 1, "note": "kept"}], "share": 0.25, "later": [1, None]}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = str(tmp_path / "deep" / "a.json")
    write_document(path, OUTER)
    assert read_document(Outer, path) == sealed(OUTER)


def test_keys_of_other_versions_are_kept(tmp_path: Path) -> None:
    path = str(tmp_path / "a.json")
    write_document(path, OUTER)
    document = read_document(Outer, path)
    assert dict(document)["later"] == [1, None]
    assert dict(document["parts"][0])["note"] == "kept"


def test_the_checksum_is_that_of_old_commits() -> None:
    """A change here would refuse every document that is stored."""
    checksum = "2ed0f54c6c91c515354056a04e63e160214fa4b7066d9452b406b60534704924"
    assert sealed({"b": [1, 2.5, None], "a": "ä"}) == {"b": [1, 2.5, None], "a": "ä", "checksum": checksum}
    assert sealed({"checksum": "another", "a": "ä", "b": [1, 2.5, None]})["checksum"] == checksum


def test_indented_and_compact_documents_are_the_same(tmp_path: Path) -> None:
    write_document(str(tmp_path / "a.json"), OUTER)
    write_compact_document(str(tmp_path / "b.json"), OUTER)
    write_compact_document(str(tmp_path / "c.json"), OUTER, end="\n")
    texts = [(tmp_path / f"{name}.json").read_text() for name in "abc"]
    assert texts[0] == json.dumps(sealed(OUTER), indent=2) + "\n"
    assert texts[1] == json.dumps(sealed(OUTER))
    assert texts[2] == texts[1] + "\n"
    assert read_document(Outer, str(tmp_path / "b.json")) == read_document(Outer, str(tmp_path / "a.json"))


@pytest.mark.parametrize(
    ("old", "new"),
    [("0.25", "0.26"), ('"size": 3', '"size": 4'), ('"later"', '"other"'), ('"checksum": "', '"checksum": "0')],
)
def test_a_changed_document_is_refused(tmp_path: Path, old: str, new: str) -> None:
    path = tmp_path / "a.json"
    write_document(str(path), OUTER)
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(
        UserError, match=r"a\.json: is damaged or was changed by hand .*checksum.*run the same command"
    ) as caught:
        read_document(Outer, str(path))
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("value", [None, 3, [], "text", {}, {"checksum": None}], ids=str)
def test_other_values_are_refused(value: object) -> None:
    with pytest.raises(UserError, match=r"^here: is damaged"):
        parsed(Outer, value, "here")


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"size": "many"}, "size"),
        ({"parts": [{"size": 1}, {}]}, r"parts\.1\.size"),
        ({"parts": None}, "parts"),
        ({"share": float("inf")}, "share"),
        ({"size": 2.5}, "size"),
    ],
    ids=str,
)
def test_a_wrong_type_is_named(changes: dict[str, object], key: str) -> None:
    with pytest.raises(UserError, match=rf"^here: is damaged or was not written by this program \({key}: ") as caught:
        parsed(Outer, sealed({**OUTER, **changes}), "here")
    assert len(str(caught.value).splitlines()) == 1


def test_a_whole_number_may_be_written_as_a_float() -> None:
    assert checked(Inner, {"size": 3.0}, "here")["size"] == 3


def test_no_document(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_document(Outer, str(tmp_path / "absent.json"))
