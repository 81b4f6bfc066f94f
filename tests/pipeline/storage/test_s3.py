"""Objects in a bucket, over HTTP: contents, listings, conditional writes and parts."""

import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from m3d.pulse import listening
from pipeline import storage
from pipeline.errors import UserError
from pipeline.observability import jsonl_log
from pipeline.storage import arrow_files, files, s3
from pipeline.storage.file_tree import list_tree
from pipeline.storage.files import File
from tests.pipeline.support.s3_errors import refusal, through
from tests.pipeline.support.s3_service import Proxy

LARGE = 40 * 2**20


@pytest.mark.parametrize("data", [b"", b"abc", memoryview(b"abc"), bytes(range(256)) * 100], ids=len)
def test_bytes_come_back(bucket: str, data: bytes | memoryview) -> None:
    path = f"{bucket}/deep/below/file.bin"
    assert not storage.exists(path)
    storage.write_bytes(path, data)
    assert storage.read_bytes(path) == bytes(data)
    assert storage.size_of(path) == len(data)
    assert storage.exists(path)
    assert storage.exists(f"{bucket}/deep")
    assert storage.is_folder(f"{bucket}/deep")
    storage.write_bytes(path, b"new")
    assert storage.read_bytes(path) == b"new"
    storage.remove(path)
    storage.remove(path)
    assert not storage.exists(path)


def test_an_object_of_an_absurd_size_is_refused(bucket: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    through(monkeypatch, proxy)
    storage.write_bytes(f"{bucket}/a", b"0123456789")
    before = proxy.faults.seen
    assert storage.read_bytes(f"{bucket}/a", most=10) == b"0123456789"
    assert proxy.faults.seen == before + 1
    with pytest.raises(UserError, match="/a: has 10 bytes; allowed for a file of this kind: at most 9"):
        storage.read_bytes(f"{bucket}/a", most=9)


def test_a_large_object_is_sent_in_parts(bucket: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    through(monkeypatch, proxy)
    data = os.urandom(LARGE)
    storage.write_bytes(f"{bucket}/large", data)
    assert proxy.faults.seen >= 2 + LARGE // s3.PART_BYTES
    assert storage.read_range(f"{bucket}/large", 5, 5 + 2**20) == data[5 : 5 + 2**20]
    assert storage.sha256(storage.read_bytes(f"{bucket}/large")) == storage.sha256(data)


def test_writing_piece_by_piece(bucket: str) -> None:
    target = storage.AtomicWriter(f"{bucket}/a/pieces")
    for piece in (b"one", b"two"):
        target.write(piece)
    assert not storage.exists(f"{bucket}/a/pieces")
    assert target.commit() == storage.sha256(b"onetwo")
    assert storage.read_bytes(f"{bucket}/a/pieces") == b"onetwo"
    dropped = storage.AtomicWriter(f"{bucket}/a/dropped")
    dropped.write(b"x")
    dropped.discard()
    assert storage.files_below(f"{bucket}/a") == ["pieces"]


def test_every_uploaded_part_beats(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "PART_BYTES", 5 * 2**20)
    beats: list[None] = []
    target = storage.AtomicWriter(f"{bucket}/a/large")
    target.write(bytes(16 * 2**20))
    with listening(lambda: beats.append(None)):
        target.commit()
    assert len(beats) >= 4


def test_listings_are_never_stale(bucket: str) -> None:
    assert storage.files_below(f"{bucket}/run") == []
    for name in ("b.json", "a.json", "c.arrow", "inner/d.json"):
        storage.write_bytes(f"{bucket}/run/{name}", b"x")
        assert storage.exists(f"{bucket}/run/{name}")
    assert storage.files_below(f"{bucket}/run") == ["a.json", "b.json", "c.arrow"]
    assert storage.files_below(f"{bucket}/run", ".json") == ["a.json", "b.json"]
    assert storage.folders_below(f"{bucket}/run") == ["inner"]
    script = "import sys; from pipeline import storage; storage.write_bytes(sys.argv[1], b'x')"
    subprocess.run([sys.executable, "-c", script, f"{bucket}/run/other"], check=True, timeout=60)
    assert "other" in storage.files_below(f"{bucket}/run")
    listed = list_tree(f"{bucket}/run", lambda name: False).files
    assert [file.name for file in listed] == ["a.json", "b.json", "c.arrow", "inner/d.json", "other"]


@pytest.mark.slow
def test_ten_thousand_keys(bucket: str) -> None:
    names = [f"{i:05d}.png" for i in range(10_000)]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda name: storage.write_bytes(f"{bucket}/many/{name}", b""), names))
    assert storage.files_below(f"{bucket}/many") == names
    assert [file.name for file in list_tree(f"{bucket}/many", lambda name: False).files] == names


def test_read_ahead_keeps_the_order(bucket: str) -> None:
    listed = [File(name=str(i), state="") for i in range(50)]
    for file in listed:
        storage.write_bytes(f"{bucket}/{file.name}", file.name.encode())
    assert [int(content) for _, content in files.read_ahead(listed, bucket)] == list(range(50))
    gone = [*listed, File(name="gone", state="")]
    assert "source changed" in refusal(lambda: list(files.read_ahead(gone, bucket)))


def test_conditions(bucket: str) -> None:
    path = f"{bucket}/lease"
    assert storage.version_of(path) is None
    assert storage.create(path, b"one")
    assert not storage.create(path, b"two")
    version = storage.version_of(path)
    assert version is not None
    assert storage.replace_version(path, b"three", version)
    assert storage.read_bytes(path) == b"three"


def test_a_log_is_written_completely(bucket: str) -> None:
    path = f"{bucket}/run/events.jsonl"
    jsonl_log.append(path, "one")
    jsonl_log.append(path, "two")
    jsonl_log.flush()
    assert storage.read_bytes(path) == b"one\ntwo\n"
    jsonl_log.append(path, "three")
    jsonl_log.flush()
    assert storage.read_bytes(path) == b"one\ntwo\nthree\n"


def test_arrow_opens_the_bucket_in_other_processes(bucket: str) -> None:
    storage.write_bytes(f"{bucket}/search/a", b"x")
    fs, root = arrow_files.file_system(f"{bucket}/search")
    fs = pickle.loads(pickle.dumps(fs))
    with fs.open_input_stream(f"{root}/a") as file:
        assert file.read() == b"x"


def test_an_empty_range(bucket: str) -> None:
    storage.write_bytes(f"{bucket}/a", b"abc")
    assert storage.read_range(f"{bucket}/a", 2, 2) == b""
    assert files.part_of(f"{bucket}/a", 3, 0) == b""


def test_an_object_is_read_ahead(bucket: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    data = os.urandom(100_000)
    storage.write_bytes(f"{bucket}/a", data)
    through(monkeypatch, proxy)
    with files.open_binary(f"{bucket}/a", buffer=10_000) as file:
        proxy.faults.seen = 0
        assert [file.read(100) for _ in range(100)] == [data[i * 100 : (i + 1) * 100] for i in range(100)]
        assert proxy.faults.seen == 1
        file.seek(-50, os.SEEK_END)
        assert (file.read(), file.tell()) == (data[-50:], len(data))
        assert proxy.faults.seen == 2


def test_an_object_without_a_buffer_is_read_exactly(bucket: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    storage.write_bytes(f"{bucket}/a", bytes(range(200)))
    through(monkeypatch, proxy)
    with files.open_binary(f"{bucket}/a") as file:
        proxy.faults.seen = 0
        assert [file.read(3), file.read(3)] == [b"\x00\x01\x02", b"\x03\x04\x05"]
        assert proxy.faults.seen == 2
