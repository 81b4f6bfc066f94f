"""Trees of files: links, loops, names that are not UTF-8, and the same lists on this machine and in a bucket."""

import os
from pathlib import Path

import pytest

from pipeline import storage
from pipeline.errors import UserError
from pipeline.storage.file_tree import Tree, list_tree
from tests.pipeline.support.source_formats import upload


def hidden(name: str) -> bool:
    """The private names of these tests."""
    return name.startswith(".")


def write(root: Path, *names: str) -> Path:
    """Writes files that contain their names."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(os.fsencode(name))
    return root


def names(tree: Tree) -> list[str]:
    """Names of the files of a tree."""
    return [file.name for file in tree.files]


NAMES = ("b/2.png", "a/1.png", "a/deep/er/0.png", ".git/objects/1", "a/.cache/x.png", "a/.hidden.png", "top.txt")


def test_private_names_are_kept_apart_at_every_level(tmp_path: Path) -> None:
    tree = list_tree(str(write(tmp_path, *NAMES)), hidden)
    assert names(tree) == ["a/1.png", "a/deep/er/0.png", "b/2.png", "top.txt"]
    assert tree.private == [".git", "a/.cache", "a/.hidden.png"]
    assert tree.folders == ["a", "a/deep", "a/deep/er", "b"]


@pytest.mark.parametrize("below", ["", "a"])
@pytest.mark.parametrize("wide", [False, True])
def test_a_bucket_is_listed_like_a_folder(tmp_path: Path, bucket: str, below: str, wide: bool) -> None:
    write(tmp_path, *NAMES, *(f"c{i:02d}/x/{i}.png" for i in range(20 if wide else 0)))
    here, there = (list_tree(root, hidden, below) for root in (str(tmp_path), upload(tmp_path, f"{bucket}/t")))
    assert names(there) == names(here)
    assert (there.folders, there.private) == (here.folders, here.private)
    assert len({file.state for file in there.files}) > 1


def test_markers_of_folders_in_a_bucket_are_no_files(bucket: str) -> None:
    for name in ("t/", "t/a/", "t/a/1.png"):
        storage.write_bytes(f"{bucket}/{name}", b"")
    tree = list_tree(f"{bucket}/t", hidden)
    assert (names(tree), tree.folders) == (["a/1.png"], ["a"])


@pytest.mark.parametrize(
    ("link", "target"),
    [("a/latest", "."), ("a/up", ".."), ("a/other", "../b"), ("alias", "a"), ("a/deep/root", "../.."), ("z", "a/deep")],
)
def test_a_folder_that_is_listed_anyway_is_listed_once(tmp_path: Path, link: str, target: str) -> None:
    write(tmp_path / "t", "a/1.png", "a/deep/0.png", "b/2.png")
    (tmp_path / "t" / link).symlink_to(target)
    tree = list_tree(str(tmp_path / "t"), hidden)
    assert names(tree) == ["a/1.png", "a/deep/0.png", "b/2.png"]
    assert tree.repeated == [link]


@pytest.mark.parametrize("below", ["", "a"])
def test_a_folder_above_the_source_is_not_followed(tmp_path: Path, below: str) -> None:
    write(tmp_path / "t", "a/1.png")
    (tmp_path / "t" / "a" / "up").symlink_to(tmp_path)
    tree = list_tree(str(tmp_path / "t"), hidden, below)
    assert [name.rpartition("/")[2] for name in names(tree)] == ["1.png"]


def test_links_out_of_the_source_are_followed_and_end(tmp_path: Path) -> None:
    write(tmp_path / "far", "cat/1.png")
    (tmp_path / "far" / "cat" / "again").symlink_to("..")
    write(tmp_path / "t", "dog/2.png")
    (tmp_path / "t" / "cat").symlink_to(tmp_path / "far" / "cat")
    tree = list_tree(str(tmp_path / "t"), hidden)
    assert (names(tree), tree.repeated) == (["cat/1.png", "dog/2.png"], ["cat/again"])
    assert names(list_tree(str(tmp_path / "t"), hidden, "cat")) == ["1.png"]


def test_a_link_to_a_private_folder_of_the_source_is_followed(tmp_path: Path) -> None:
    write(tmp_path, ".store/cat/1.png")
    (tmp_path / "cat").symlink_to(".store/cat")
    assert names(list_tree(str(tmp_path), hidden)) == ["cat/1.png"]


def test_two_links_to_the_same_files_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "far", "1.png")
    (tmp_path / "t").mkdir()
    for name in ("train", "test"):
        (tmp_path / "t" / name).symlink_to(tmp_path / "far")
    with pytest.raises(UserError, match="test and train are links that lead to the same files"):
        list_tree(str(tmp_path / "t"), hidden)


@pytest.mark.parametrize("between", ["data.old", "data-2", "data old"])
def test_a_link_below_the_target_of_another_is_refused_whatever_is_beside_it(tmp_path: Path, between: str) -> None:
    write(tmp_path / "far", "data/cat/1.png", f"{between}/2.png")
    (tmp_path / "t").mkdir()
    for name, target in {"a": "data", "b": between, "c": "data/cat"}.items():
        (tmp_path / "t" / name).symlink_to(tmp_path / "far" / target)
    with pytest.raises(UserError, match="a and c are links that lead to the same files"):
        list_tree(str(tmp_path / "t"), hidden)


@pytest.mark.parametrize(
    ("kind", "problem"), [("dangling", "link to nothing"), ("itself", "link to nothing"), ("pipe", "no regular file")]
)
def test_what_cannot_be_read_is_listed_with_its_problem(tmp_path: Path, kind: str, problem: str) -> None:
    path = write(tmp_path, "a/1.png") / "a" / "0.png"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("0.png" if kind == "itself" else "/nowhere/gone.png")
    first, second = list_tree(str(tmp_path), hidden).files
    assert (first.name, second.name, second.problem) == ("a/0.png", "a/1.png", "")
    assert problem in first.problem


def test_links_to_files_are_files(tmp_path: Path) -> None:
    write(tmp_path / "blobs", "123")
    write(tmp_path / "t", "b.png")
    (tmp_path / "t" / "a.png").symlink_to(tmp_path / "blobs" / "123")
    assert names(list_tree(str(tmp_path / "t"), hidden)) == ["a.png", "b.png"]


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    tree = list_tree(str(write(tmp_path, name)), hidden)
    assert (names(tree), [storage.readable(n) for n in names(tree)]) == ([name], ["caf\\xe9.png"])


def test_a_folder_that_is_gone_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone: cannot be listed \(No such file or directory\)"):
        list_tree(str(tmp_path), hidden, "gone")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0)
    with pytest.raises(UserError, match=r"closed: cannot be listed \(Permission denied\)"):
        list_tree(str(tmp_path), hidden)
