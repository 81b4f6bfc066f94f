"""Paths in a bucket, over HTTP: contents, listings, conditions, harm, and sentences for what cannot be reached."""

import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from m3d.config import ConfigError
from pipeline import storage
from pipeline.config.storage import Storage
from pipeline.errors import FailedError, UserError
from pipeline.observability import jsonl_log
from pipeline.storage import arrow_files, files, s3
from tests.pipeline.support.s3_service import SECRET, Proxy, Service, environment

LARGE = 40 * 2**20
UPLOAD = """
import sys
from pipeline import storage
print("begins", flush=True)
storage.write_bytes(sys.argv[1], bytes(int(sys.argv[2])))
print("done", flush=True)
"""


def through(monkeypatch: pytest.MonkeyPatch, proxy: Proxy, attempts: int = 8, timeout_s: float = 30.0) -> None:
    """Leads this process's storage through the proxy."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
    s3.use(Storage(attempts=attempts, timeout_s=timeout_s))


def refusal(operation: Callable[[], object], kind: type[Exception] = UserError) -> str:
    """The one line of an operation that is refused; it never holds a secret."""
    with pytest.raises(kind) as caught:
        operation()
    told = str(caught.value)
    assert len(told.splitlines()) == 1
    assert SECRET not in told
    return told


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
    assert [file.name for file in files.files_in(f"{bucket}/run", (".json",))] == ["a.json", "b.json", "inner/d.json"]


@pytest.mark.slow
def test_ten_thousand_keys(bucket: str) -> None:
    names = [f"{i:05d}.png" for i in range(10_000)]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda name: storage.write_bytes(f"{bucket}/many/{name}", b""), names))
    assert storage.files_below(f"{bucket}/many") == names
    assert [file.name for file in files.files_in(f"{bucket}/many", (".png",))] == names


def test_read_ahead_keeps_the_order(bucket: str) -> None:
    names = [f"{bucket}/{i}" for i in range(50)]
    for i, name in enumerate(names):
        storage.write_bytes(name, str(i).encode())
    assert [int(content) for _, content in files.read_ahead(names, str)] == list(range(50))
    gone = [*names, f"{bucket}/gone"]
    assert "source changed" in refusal(lambda: list(files.read_ahead(gone, str)))


def test_conditions(bucket: str) -> None:
    path = f"{bucket}/lease"
    assert storage.version_of(path) is None
    assert storage.create(path, b"one")
    assert not storage.create(path, b"two")
    version = storage.version_of(path)
    assert version is not None
    assert storage.replace_version(path, b"three", version)
    assert storage.read_bytes(path) == b"three"


def test_a_log_is_written_whole(bucket: str) -> None:
    path = f"{bucket}/run/events.jsonl"
    jsonl_log.append(path, "one")
    jsonl_log.append(path, "two")
    jsonl_log.flush()
    assert storage.read_bytes(path) == b"one\ntwo\n"
    jsonl_log.append(path, "three")
    jsonl_log.flush()
    assert storage.read_bytes(path) == b"one\ntwo\nthree\n"


@pytest.mark.parametrize("kind", ["500", "503", "reset", "cut", "slow"])
def test_harm_is_repaired_and_counted(bucket: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    through(monkeypatch, proxy, timeout_s=1.0)
    proxy.faults.share, proxy.faults.kinds, proxy.faults.slow_s = 0.3, (kind,), 2.0
    proxy.faults.methods = ("GET",) if kind == "cut" else proxy.faults.methods
    before = s3.retries()
    for i in range(8):
        storage.write_bytes(f"{bucket}/{i}", str(i).encode() * 100)
    assert [storage.read_bytes(f"{bucket}/{i}") for i in range(8)] == [str(i).encode() * 100 for i in range(8)]
    assert storage.files_below(bucket) == [str(i) for i in range(8)]
    assert proxy.faults.made
    counted = s3.retries() - before
    # aiohttp itself repeats a request that finds the connection of an earlier one closed, and does not tell.
    assert counted <= len(proxy.faults.made) if kind == "reset" else counted == len(proxy.faults.made)


def test_silence_is_waited_for_as_often_as_the_settings_say(
    bucket: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    through(monkeypatch, proxy, attempts=3, timeout_s=0.2)
    proxy.faults.share, proxy.faults.kinds, proxy.faults.slow_s = 1.0, ("slow",), 1.0
    assert "failed after at most 3 attempts" in refusal(lambda: storage.read_bytes(f"{bucket}/a"), FailedError)
    assert proxy.faults.seen == 3


def test_an_outage_leaves_later_requests_their_attempts(
    bucket: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    through(monkeypatch, proxy, attempts=3)
    proxy.faults.share, proxy.faults.kinds = 1.0, ("503",)
    monkeypatch.setattr("random.random", lambda: 0.0)  # no pauses
    for i in range(60):
        refusal(lambda i=i: storage.read_bytes(f"{bucket}/{i}"), FailedError)
    assert proxy.faults.seen == 180


def test_an_upload_whose_end_was_forgotten_is_made_anew(
    bucket: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    through(monkeypatch, proxy)
    proxy.faults.share, proxy.faults.kinds, proxy.faults.most = 1.0, ("forgotten",), 1
    proxy.faults.methods, proxy.faults.containing = ("POST",), "uploadId="
    data = os.urandom(LARGE)
    storage.write_bytes(f"{bucket}/large", data)
    assert proxy.faults.made == ["forgotten"]
    assert storage.read_bytes(f"{bucket}/large") == data


def test_a_log_outlives_a_bucket_that_is_gone(bucket: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    through(monkeypatch, proxy, attempts=1)
    monkeypatch.setattr(jsonl_log, "EVERY_S", 0.0)
    path = f"{bucket}/run/events.jsonl"
    jsonl_log.append(path, "one")
    proxy.faults.share, proxy.faults.kinds = 1.0, ("500",)
    jsonl_log.append(path, "two")
    refusal(jsonl_log.flush, FailedError)
    proxy.faults.share = 0.0
    assert storage.read_bytes(path) == b"one\n"


def test_arrow_opens_the_bucket_in_other_processes(bucket: str) -> None:
    storage.write_bytes(f"{bucket}/search/a", b"x")
    fs, root = arrow_files.file_system(f"{bucket}/search")
    fs = pickle.loads(pickle.dumps(fs))
    with fs.open_input_stream(f"{root}/a") as file:
        assert file.read() == b"x"


def test_no_bytes_are_a_range_too(bucket: str) -> None:
    storage.write_bytes(f"{bucket}/a", b"abc")
    assert storage.read_range(f"{bucket}/a", 2, 2) == b""
    assert files.part_of(f"{bucket}/a", 3, 0) == b""


def test_a_part_that_never_arrives_leaves_what_was_there(
    bucket: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.write_bytes(f"{bucket}/large", b"old")
    through(monkeypatch, proxy, attempts=2)
    proxy.faults.share, proxy.faults.kinds, proxy.faults.containing = 1.0, ("500",), "partNumber=2"
    told = refusal(lambda: storage.write_bytes(f"{bucket}/large", bytes(LARGE)), FailedError)
    assert "InternalError" in told
    assert storage.read_bytes(f"{bucket}/large") == b"old"


def test_a_killed_upload_leaves_what_was_there(bucket: str, proxy: Proxy) -> None:
    storage.write_bytes(f"{bucket}/large", b"old")
    proxy.faults.share, proxy.faults.kinds, proxy.faults.slow_s = 1.0, ("slow",), 20.0
    proxy.faults.containing = "partNumber=2"
    surroundings = {**os.environ, **environment(proxy.endpoint)}
    command = [sys.executable, "-c", UPLOAD, f"{bucket}/large", str(LARGE)]
    upload = subprocess.Popen(command, env=surroundings, stdout=subprocess.PIPE, text=True)
    try:
        ends = time.monotonic() + 60
        while not proxy.faults.made:  # the second part is under way
            assert upload.poll() is None
            assert time.monotonic() < ends
            time.sleep(0.02)
        upload.kill()
        upload.wait(timeout=30)
    finally:
        upload.kill()
        assert upload.stdout is not None
        upload.stdout.close()
    assert storage.read_bytes(f"{bucket}/large") == b"old"
    assert storage.files_below(bucket) == ["large"]


# What cannot be reached


def test_missing_bucket(bucket: str) -> None:
    for operation in (
        lambda: storage.write_bytes("s3://not-there-at-all/a", b"x"),
        lambda: storage.require_reachable("s3://not-there-at-all/a"),
        lambda: storage.files_below("s3://not-there-at-all/a"),
    ):
        assert "there is no bucket 'not-there-at-all'" in refusal(operation)


def test_no_credentials(bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("public", "private"):
        storage.write_bytes(f"{bucket}/{name}", b"x")
    s3.file_system().chmod(f"{bucket}/public", acl="public-read")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    s3.use(Storage(attempts=3))
    assert "no S3 credentials were found" in refusal(lambda: storage.write_bytes(f"{bucket}/a", b"x"))
    s3.use(Storage(attempts=3, profile="nobody"))
    assert "storage.profile: given 'nobody'" in refusal(lambda: storage.write_bytes(f"{bucket}/a", b"x"))
    s3.use(Storage(anonymous=True))
    assert storage.read_bytes(f"{bucket}/public") == b"x"
    assert "access is denied" in refusal(lambda: storage.read_bytes(f"{bucket}/private"))


def test_an_endpoint_that_does_not_answer(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    s3.use(Storage(attempts=2))
    told = refusal(lambda: storage.require_reachable(f"{bucket}/a"))
    assert "no S3 service answers at http://127.0.0.1:9" in told


@pytest.mark.parametrize("endpoint", ["localhost:9000", "ftp://host", "http://", "https://key:secret@host"])
def test_endpoints_that_are_none(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError) as caught:
        Storage(endpoint=endpoint)
    assert "storage.endpoint" in str(caught.value)
    assert "secret@" not in str(caught.value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    with pytest.raises(ConfigError, match="AWS_ENDPOINT_URL"):
        s3.use(Storage())


def test_a_bucket_that_turns_read_only(bucket: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    through(monkeypatch, proxy)
    storage.write_bytes(f"{bucket}/a", b"before")
    proxy.faults.share, proxy.faults.kinds, proxy.faults.methods = 1.0, ("403",), ("PUT", "POST")
    assert "access is denied (AccessDenied)" in refusal(lambda: storage.write_bytes(f"{bucket}/a", b"after"))
    target = storage.AtomicWriter(f"{bucket}/b")
    target.write(b"x")
    assert "access is denied" in refusal(target.commit)
    assert storage.read_bytes(f"{bucket}/a") == b"before"


def test_wrong_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    strict = Service()
    try:
        strict.bucket("held")
        strict.post("/moto-api/reset-auth", b"0")  # from now on moto looks at who asks
        for name, value in environment(strict.endpoint).items():
            monkeypatch.setenv(name, value)
        s3.use(Storage(attempts=2))
        for operation in (
            lambda: storage.write_bytes("s3://held/a", b"x"),
            lambda: storage.require_reachable("s3://held/a"),
        ):
            told = refusal(operation)
            assert "refuses the credentials (InvalidAccessKeyId)" in told
    finally:
        strict.stop()


def test_settings_reach_other_processes_without_credentials(bucket: str) -> None:
    s3.use(Storage(profile="someone", attempts=3))
    held = s3.environment()[s3.VARIABLE]
    assert SECRET not in held
    assert "AKIA" not in held
    assert s3.in_force().endpoint == os.environ["AWS_ENDPOINT_URL"]
    assert s3.in_force().attempts == 3
