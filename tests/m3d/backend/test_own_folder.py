"""Folders inside a shared temporary folder are used only if they are ours."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from m3d.backend import compiler, own_folder
from m3d.backend.own_folder import own_folder as made
from m3d.backend.own_folder import temporary_folder


@pytest.fixture(autouse=True)
def _shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A temporary folder of the test's own."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    own_folder._new_folder.cache_clear()


def test_a_new_folder_is_for_this_user_alone(tmp_path: Path) -> None:
    folder = made(tmp_path / "new")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert made(folder) == folder


def test_rights_of_others_are_taken_away(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    os.chmod(tmp_path / "open", 0o777)
    assert stat.S_IMODE(made(tmp_path / "open").stat().st_mode) == 0o700


def test_links_and_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "victim").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "victim")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "file").write_bytes(b"")
    for name in ("link", "dangling", "file"):
        with pytest.raises(NotADirectoryError, match="is a link or no folder"):
            made(tmp_path / name)
    assert not (tmp_path / "nowhere").exists()


def test_a_folder_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "theirs").mkdir()
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(PermissionError, match="belongs to another user"):
        made(tmp_path / "theirs")


def test_a_taken_name_is_answered_by_one_new_folder(tmp_path: Path) -> None:
    assert temporary_folder("free") == tmp_path / f"free-{os.getuid()}"
    (tmp_path / "victim").mkdir()
    (tmp_path / f"taken-{os.getuid()}").symlink_to(tmp_path / "victim")
    folder = temporary_folder("taken")
    assert folder == temporary_folder("taken")
    assert folder.name.startswith("taken-")
    assert folder.name != f"taken-{os.getuid()}"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert list((tmp_path / "victim").iterdir()) == []


def test_compiled_code_of_somebody_else_is_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache").write_bytes(b"")  # no folder can be made below it
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "theirs").mkdir()
    (tmp_path / f"m3d-condense-{os.getuid()}").symlink_to(tmp_path / "theirs")
    folder = Path(compiler.cache_folder())
    assert folder.parent == tmp_path
    assert folder.resolve() == folder


def test_a_new_folder_is_removed_at_the_end_of_its_process(tmp_path: Path) -> None:
    (tmp_path / f"taken-{os.getuid()}").touch()
    script = "from m3d.backend.own_folder import temporary_folder as made; (made('taken') / 'a').touch(); print(made('taken'))"
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.startswith(f"{tmp_path}/taken-")
    assert [path.name for path in tmp_path.iterdir()] == [f"taken-{os.getuid()}"]
