"""S3 that cannot be reached: one-line messages without secrets."""

import os
from pathlib import Path

import pytest

from m3d.config import ConfigError
from pipeline import storage
from pipeline.config.storage import Storage
from pipeline.storage import s3
from tests.pipeline.support.s3_errors import refusal
from tests.pipeline.support.s3_service import SECRET, Service, environment


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
    message = refusal(lambda: storage.require_reachable(f"{bucket}/a"))
    assert "no S3 service answers at http://127.0.0.1:9" in message


@pytest.mark.parametrize("endpoint", ["localhost:9000", "ftp://host", "http://", "https://key:secret@host"])
def test_wrong_endpoints_are_refused(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError) as caught:
        Storage(endpoint=endpoint)
    assert "storage.endpoint" in str(caught.value)
    assert "secret@" not in str(caught.value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    with pytest.raises(ConfigError, match="AWS_ENDPOINT_URL:"):
        s3.use(Storage())
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://localhost:9000")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
    with pytest.raises(ConfigError, match="AWS_ENDPOINT_URL_S3:"):
        s3.use(Storage())


def test_wrong_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    strict = Service()
    try:
        strict.bucket("private")
        strict.post("/moto-api/reset-auth", b"0")  # from now on moto looks at who asks
        for name, value in environment(strict.endpoint).items():
            monkeypatch.setenv(name, value)
        s3.use(Storage(attempts=2))
        for operation in (
            lambda: storage.write_bytes("s3://private/a", b"x"),
            lambda: storage.require_reachable("s3://private/a"),
        ):
            message = refusal(operation)
            assert "refuses the credentials (InvalidAccessKeyId)" in message
    finally:
        strict.stop()


def test_settings_reach_other_processes_without_credentials(bucket: str) -> None:
    s3.use(Storage(profile="someone", attempts=3))
    text = s3.environment()[s3.VARIABLE]
    assert SECRET not in text
    assert "AKIA" not in text
    assert s3.active_settings().endpoint == os.environ["AWS_ENDPOINT_URL"]
    assert s3.active_settings().attempts == 3
