"""Objects are complete or absent, and messages for what cannot be written or read."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from m3d.pulse import listening
from pipeline import storage
from pipeline.errors import UserError
from pipeline.storage import arrow_files


def no_room(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("data", [b"", b"abc", memoryview(b"abc"), bytes(range(256)) * 100], ids=len)
def test_bytes_come_back(tmp_path: Path, data: bytes | memoryview) -> None:
    path = str(tmp_path / "deep" / "below" / "file.bin")
    storage.write_bytes(path, data)
    assert storage.read_bytes(path) == bytes(data)


def test_json_comes_back_and_ends_with_a_newline(tmp_path: Path) -> None:
    path = str(tmp_path / "a.json")
    storage.write_json(path, {"ä": [1, None, "b"]})
    assert storage.read_json(path) == {"ä": [1, None, "b"]}
    assert storage.read_bytes(path).endswith(b"}\n")


def test_a_write_replaces_the_complete_file(tmp_path: Path) -> None:
    path = str(tmp_path / "a")
    storage.write_bytes(path, b"long content")
    storage.write_bytes(path, b"new")
    assert storage.read_bytes(path) == b"new"
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("broken", ["replace", "fsync"])
def test_a_failing_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    monkeypatch.setattr(os, broken, no_room)
    with pytest.raises(UserError, match=r"a\.json: cannot be written \(No space left on device\).*another --out"):
        storage.write_json(str(tmp_path / "a.json"), {})
    assert os.listdir(tmp_path) == []


def test_a_failing_write_keeps_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "a")
    storage.write_bytes(path, b"old")
    monkeypatch.setattr(os, "replace", no_room)
    with pytest.raises(UserError):
        storage.write_bytes(path, b"new")
    assert storage.read_bytes(path) == b"old"
    assert os.listdir(tmp_path) == ["a"]


def test_an_interrupted_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        storage.write_bytes(str(tmp_path / "a"), b"x")
    assert os.listdir(tmp_path) == []


def test_nothing_is_visible_before_it_is_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[bool, bytes]] = []
    replace = os.replace

    def look(source: Path, target: Path) -> None:
        seen.append((Path(target).exists(), Path(source).read_bytes()))
        replace(source, target)

    monkeypatch.setattr(os, "replace", look)
    storage.write_bytes(str(tmp_path / "a"), b"complete")
    assert seen == [(False, b"complete")]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="cannot be written"):
        storage.write_bytes(str(tmp_path / "a"), b"x")


def test_a_file_where_a_folder_must_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        storage.write_bytes(str(tmp_path / "file" / "a"), b"x")


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\xfe\x00", b"{}{}", b"[" * 100_000, b"1" * 5000],
    ids=["empty", "open", "no text", "two", "deep", "long number"],
)
def test_invalid_json_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.json: is not valid JSON") as caught:
        storage.read_json(str(tmp_path / "a.json"))
    assert len(str(caught.value).splitlines()) == 1


def test_reading_an_absent_file(tmp_path: Path) -> None:
    for read in (storage.read_json, storage.read_bytes):
        with pytest.raises(FileNotFoundError):
            read(str(tmp_path / "absent"))


def test_files_below(tmp_path: Path) -> None:
    for name in ("b.json", "a.json", "c.arrow", "inner/d.json"):
        storage.write_bytes(str(tmp_path / name), b"x")
    assert storage.files_below(str(tmp_path)) == ["a.json", "b.json", "c.arrow"]
    assert storage.files_below(str(tmp_path), ".json") == ["a.json", "b.json"]
    assert storage.files_below(str(tmp_path / "absent")) == []


def test_exists_and_is_folder(tmp_path: Path) -> None:
    storage.write_bytes(str(tmp_path / "a"), b"x")
    assert storage.exists(str(tmp_path))
    assert storage.exists(str(tmp_path / "a"))
    assert not storage.exists(str(tmp_path / "b"))
    assert storage.is_folder(str(tmp_path))
    assert not storage.is_folder(str(tmp_path / "a"))


def test_remove(tmp_path: Path) -> None:
    storage.write_bytes(str(tmp_path / "a"), b"x")
    storage.remove(str(tmp_path / "a"))
    storage.remove(str(tmp_path / "a"))
    assert os.listdir(tmp_path) == []


def test_append_line(tmp_path: Path) -> None:
    for line in ("one", "zwei ä"):
        storage.append_line(str(tmp_path / "below" / "log"), line)
    assert (tmp_path / "below" / "log").read_text(encoding="utf-8") == "one\nzwei ä\n"


@pytest.mark.parametrize(
    ("path", "expected"),
    [("/a/b", "/a/b"), ("file:///a/b", "/a/b"), ("s3://bucket/run/", "s3://bucket/run"), ("s3://b", "s3://b")],
)
def test_absolute(path: str, expected: str) -> None:
    assert storage.absolute(path) == expected


def test_absolute_of_relative_and_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/someone")
    assert storage.absolute("run") == f"{tmp_path}/run"
    assert storage.absolute("~/run") == "/home/someone/run"


@pytest.mark.parametrize(
    ("parts", "expected"), [(("/a", "b"), "/a/b"), (("/a/", "b", "c"), "/a/b/c"), (("s3://b", "c"), "s3://b/c")]
)
def test_join(parts: tuple[str, ...], expected: str) -> None:
    assert storage.join(*parts) == expected


def test_below_the_root() -> None:
    assert storage.join("/", "a") == "/a"


def test_other_file_systems(tmp_path: Path, memory: None) -> None:
    path = f"memory://{tmp_path.name}/below/a.json"
    storage.write_json(path, {"a": 1})
    assert not storage.is_local(path)
    assert storage.read_json(path) == {"a": 1}
    assert storage.files_below(f"memory://{tmp_path.name}/below") == ["a.json"]
    assert arrow_files.source(path).read() == storage.read_bytes(path)
    storage.remove(path)
    assert not storage.exists(path)


def test_arrows_file_system_of_a_folder_and_of_a_url(tmp_path: Path, memory: None) -> None:
    (tmp_path / "a").write_bytes(b"x")
    fs, root = arrow_files.file_system(str(tmp_path))
    with fs.open_input_stream(f"{root}/a") as file:
        assert file.read() == b"x"
    storage.write_bytes(f"memory://{tmp_path.name}/a", b"y")
    fs, root = arrow_files.file_system(f"memory://{tmp_path.name}")
    with fs.open_input_stream(f"{root}/a") as file:
        assert file.read() == b"y"


def test_every_piece_of_a_large_object_beats(tmp_path: Path) -> None:
    beats: list[None] = []
    writer = storage.AtomicWriter(str(tmp_path / "a"))
    with listening(lambda: beats.append(None)):
        for _ in range(10):
            writer.write(b"piece")
    writer.commit()
    assert len(beats) == 10
