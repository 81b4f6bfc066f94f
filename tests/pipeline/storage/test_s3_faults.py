"""Faults of an S3 service, injected by a proxy: requests are repeated, and nothing half-written becomes visible."""

import os
import subprocess
import sys
import time

import pytest

from pipeline import storage
from pipeline.errors import FailedError
from pipeline.observability import jsonl_log
from pipeline.storage import s3
from tests.pipeline.support.s3_errors import refusal, through
from tests.pipeline.support.s3_service import Proxy, environment

LARGE = 40 * 2**20
UPLOAD = """
import sys
from pipeline import storage
print("begins", flush=True)
storage.write_bytes(sys.argv[1], bytes(int(sys.argv[2])))
print("done", flush=True)
"""


@pytest.mark.parametrize("kind", ["500", "503", "reset", "cut", "slow"])
def test_faults_are_repaired_and_counted(bucket: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
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
    # aiohttp itself repeats a request that finds the connection of an earlier one closed, but does not report it.
    assert counted <= len(proxy.faults.made) if kind == "reset" else counted == len(proxy.faults.made)


def test_silence_is_retried_as_often_as_the_settings_say(
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


def test_an_upload_whose_end_was_forgotten_is_repeated(
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


def test_a_part_that_never_arrives_leaves_what_was_there(
    bucket: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.write_bytes(f"{bucket}/large", b"old")
    through(monkeypatch, proxy, attempts=2)
    proxy.faults.share, proxy.faults.kinds, proxy.faults.containing = 1.0, ("500",), "partNumber=2"
    message = refusal(lambda: storage.write_bytes(f"{bucket}/large", bytes(LARGE)), FailedError)
    assert "InternalError" in message
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


def test_a_bucket_that_turns_read_only(bucket: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    through(monkeypatch, proxy)
    storage.write_bytes(f"{bucket}/a", b"before")
    proxy.faults.share, proxy.faults.kinds, proxy.faults.methods = 1.0, ("403",), ("PUT", "POST")
    assert "access is denied (AccessDenied)" in refusal(lambda: storage.write_bytes(f"{bucket}/a", b"after"))
    target = storage.AtomicWriter(f"{bucket}/b")
    target.write(b"x")
    assert "access is denied" in refusal(target.commit)
    assert storage.read_bytes(f"{bucket}/a") == b"before"
