"""The file system that Ray Tune and Ray Train get for a bucket: broken answers are repeated, and errors are one line."""

import gc
import os
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.fs
import pytest

from pipeline import storage
from pipeline.config.storage import Storage
from pipeline.errors import FailedError, UserError
from pipeline.storage import arrow_files, s3
from pipeline.storage.arrow_s3 import _Handler
from tests.pipeline.support.s3_errors import refusal, through
from tests.pipeline.support.s3_service import Proxy


def folder_with_files(path: Path, count: int) -> Path:
    """A folder of small files, one level of folders among them."""
    for i in range(count):
        file = path / f"part-{i % 2}" / f"{i}.bin"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(bytes([i]) * 300)
    return path


@pytest.mark.parametrize("kind", ["500", "503", "reset", "cut", "slow"])
def test_a_folder_is_copied_there_and_back_through_faults(
    bucket: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str
) -> None:
    through(monkeypatch, proxy, timeout_s=0.5)
    proxy.faults.share, proxy.faults.kinds, proxy.faults.slow_s = 0.35, (kind,), 0.8
    proxy.faults.methods = ("GET",) if kind == "cut" else proxy.faults.methods
    fs, root = arrow_files.file_system(f"{bucket}/search")
    given, local = folder_with_files(tmp_path / "given", 8), pyarrow.fs.LocalFileSystem()
    # As Ray Tune and Ray Train copy their files.
    pyarrow.fs.copy_files(str(given), root, source_filesystem=local, destination_filesystem=fs)
    (tmp_path / "back").mkdir()
    pyarrow.fs.copy_files(root, str(tmp_path / "back"), source_filesystem=fs, destination_filesystem=local)
    files = {path.relative_to(given): path.read_bytes() for path in given.rglob("*.bin")}
    assert {path: (tmp_path / "back" / path).read_bytes() for path in files} == files
    assert proxy.faults.made


def test_answers_that_are_cut_off_are_counted_as_repeated(
    bucket: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = os.urandom(100_000)
    storage.write_bytes(f"{bucket}/a", data)
    through(monkeypatch, proxy)
    proxy.faults.share, proxy.faults.kinds, proxy.faults.methods, proxy.faults.most = 1.0, ("cut",), ("GET",), 3
    before = s3.retries()
    fs, root = arrow_files.file_system(bucket)
    with fs.open_input_file(f"{root}/a") as file:
        assert file.read() == data
    assert s3.retries() - before == len(proxy.faults.made) == 3


def test_a_deletion_whose_answer_was_lost_is_no_error(
    bucket: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.write_bytes(f"{bucket}/search/a", b"x")
    storage.write_bytes(f"{bucket}/search/b", b"x")
    fs, root = arrow_files.file_system(f"{bucket}/search")
    fs.delete_file(f"{root}/a")
    through(monkeypatch, proxy)
    fs, root = arrow_files.file_system(f"{bucket}/search")
    proxy.faults.share, proxy.faults.kinds, proxy.faults.methods, proxy.faults.most = 1.0, ("cut",), ("POST",), 1
    fs.delete_dir(root)
    assert proxy.faults.made
    assert storage.files_below(f"{bucket}/search") == []
    with pytest.raises(FileNotFoundError):
        fs.delete_file(f"{root}/never")


def test_an_outage_and_refused_access_are_one_line(bucket: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    through(monkeypatch, proxy, attempts=2)
    monkeypatch.setattr("random.random", lambda: 0.0)  # no pauses
    fs, root = arrow_files.file_system(bucket)
    proxy.faults.share, proxy.faults.kinds = 1.0, ("503",)
    text = refusal(lambda: fs.get_file_info(f"{root}/a"), FailedError)
    assert "failed after at most 2 attempts" in text
    proxy.faults.kinds = ("403",)

    def write() -> None:
        with fs.open_output_stream(f"{root}/a") as file:
            file.write(b"x")

    assert "access is denied" in refusal(write, UserError)


def test_settings_hold_for_ray_as_well(bucket: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    s3.file_system().call_s3("put_object", Bucket=s3.bucket_of(bucket), Key="a", Body=b"x", ACL="public-read")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")  # nobody listens there
    s3.use(Storage(endpoint=proxy.endpoint, anonymous=True, attempts=2))
    fs, root = arrow_files.file_system(bucket)
    proxy.faults.seen = 0
    with fs.open_input_stream(f"{root}/a") as file:
        assert isinstance(file, pa.NativeFile)
        assert file.read() == b"x"
    assert proxy.faults.seen == 1


def test_an_object_that_is_not_completed_is_never_written() -> None:
    written: dict[str, bytes] = {}
    store = SimpleNamespace(pipe_file=lambda path, content, **_: written.update({path: content}))
    fs = pyarrow.fs.PyFileSystem(_Handler(store))
    aborted, completed = fs.open_output_stream("bucket/a"), fs.open_output_stream("bucket/b")
    for stream in (aborted, completed):
        stream.write(b"half")
    completed.write(b"whole")
    completed.close()
    del aborted, completed, stream
    gc.collect()
    assert written == {"bucket/b": b"halfwhole"}
