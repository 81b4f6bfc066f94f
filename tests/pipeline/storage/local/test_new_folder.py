"""Folders that become visible at once."""

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.errors import UserError
from pipeline.storage.local.new_folder import new_folder

KILLED = """
import os, sys
from pathlib import Path
from pipeline.storage.local.new_folder import new_folder

with new_folder(sys.argv[1]) as folder:
    Path(folder, "half").write_text("half of it")
    os._exit(9)
"""


def test_nothing_is_visible_before_the_end(tmp_path: Path) -> None:
    with new_folder(str(tmp_path / "a" / "out")) as folder:
        Path(folder, "file").write_text("content")
        assert not (tmp_path / "a" / "out").exists()
    assert (tmp_path / "a" / "out" / "file").read_text() == "content"
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["out"]


def test_what_a_killed_writer_left_is_removed_by_the_next(tmp_path: Path) -> None:
    out = tmp_path / "out[1]"
    done = subprocess.run([sys.executable, "-c", KILLED, str(out)], timeout=100)
    assert done.returncode == 9
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".out[1].")
    with new_folder(str(out)) as folder:
        assert not left.exists()
        assert not any(Path(folder).iterdir())
    assert list(tmp_path.iterdir()) == [out]


def test_what_another_writer_writes_stays(tmp_path: Path) -> None:
    with new_folder(str(tmp_path / "out")) as first:
        with new_folder(str(tmp_path / "out")) as second:
            Path(second, "file").write_text("second")
            assert Path(first).exists()
        Path(first, "file").write_text("first")
        (tmp_path / "out" / "file").unlink()  # the second is gone, so that the first can take its place
    assert (tmp_path / "out" / "file").read_text() == "first"


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_what_is_there_is_not_replaced(tmp_path: Path, kind: str) -> None:
    out = tmp_path / "out"
    if kind == "file":
        out.write_text("mine")
    elif kind == "folder":
        out.mkdir()
        (out / "mine").write_text("mine")
    else:
        out.symlink_to(tmp_path / "nothing")
    with pytest.raises(UserError, match="is not empty; choose another --out"), new_folder(str(out)):
        pytest.fail("the folder is written")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_link_to_an_empty_folder_stays(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to("disk")
    with new_folder(str(tmp_path / "out")) as folder:
        Path(folder, "file").write_text("content")
    assert (tmp_path / "out").is_symlink()
    assert (tmp_path / "disk" / "file").read_text() == "content"
    assert len(list(tmp_path.iterdir())) == 2


def test_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="cannot be written"), new_folder(str(tmp_path / "file" / "out")):
        pytest.fail("the folder is written")
