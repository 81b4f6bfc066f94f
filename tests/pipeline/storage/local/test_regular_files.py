"""Only regular files are read, and only in sizes that fit."""

import os
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline import storage
from pipeline.config.run_config import RunConfig
from pipeline.data.class_names import read_synsets
from pipeline.errors import UserError
from pipeline.formats.peers import parse, read
from pipeline.storage.arrow_files import source
from pipeline.storage.files import File, open_binary, read_ahead
from pipeline.storage.local.regular_files import DOCUMENT_BYTES, IMAGE_BYTES, LIST_BYTES, MOST_BYTES, SETTINGS_BYTES
from pipeline.storage.settings import load_config
from pipeline.storage.tensors import read_tensors
from pipeline.tune.space_file import space_of_file

READERS: dict[str, Callable[[str], object]] = {
    "bytes": storage.read_bytes,
    "range": lambda path: storage.read_range(path, 0, 10),
    "json": storage.read_json,
    "stream": open_binary,
    "image": lambda path: list(read_ahead([File(name=Path(path).name, state="")], str(Path(path).parent))),
    "arrow": source,
    "tensors": read_tensors,
    "config": load_config,
    "synsets": read_synsets,
    "space": lambda path: space_of_file(path, RunConfig()),
    "peer": lambda path: read(parse(f"{path}:idc"), shape=(3, 8, 8), classes=2, moments=None),
}
"""Everything that reads a local file that a user or a folder names."""


def _socket(path: Path) -> None:
    # A socket's path is short; that of a test is not.
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{folder}/s")
        os.rename(f"{folder}/s", path)


ODD: dict[str, Callable[[Path], None]] = {
    "pipe": os.mkfifo,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "socket": _socket,
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", ODD)
def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path, kind: str, reader: str) -> None:
    path = tmp_path / "a.pt"
    ODD[kind](path)
    with pytest.raises(UserError, match=rf"a\.pt: is a {kind}, which is not read; give a regular file"):
        READERS[reader](str(path))


@pytest.mark.parametrize(
    ("reader", "most"),
    [
        ("bytes", MOST_BYTES),
        ("peer", MOST_BYTES),
        ("tensors", MOST_BYTES),
        ("json", DOCUMENT_BYTES),
        ("config", LIST_BYTES),
        ("synsets", LIST_BYTES),
        ("image", IMAGE_BYTES),
        ("space", SETTINGS_BYTES),
    ],
)
def test_a_file_of_an_absurd_size_is_refused_before_memory_is_taken(tmp_path: Path, reader: str, most: int) -> None:
    path = tmp_path / "a.pt"
    with path.open("wb") as file:
        file.truncate(most + 1)  # takes no space on the disk
    with pytest.raises(UserError, match=rf"has {most + 1} bytes; allowed for a file of this kind: at most {most}"):
        READERS[reader](str(path))


def test_parts_of_a_file_end_where_it_ends(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"0123456789")
    path = str(tmp_path / "a")
    assert [storage.read_range(path, *ends) for ends in ((2, 4), (8, 2**62), (20, 30), (5, 5))] == [
        b"23",
        b"89",
        b"",
        b"",
    ]
    assert storage.read_bytes(path) == b"0123456789"
