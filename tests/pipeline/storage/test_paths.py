"""Local paths are taken as they are written, and URLs are opened only if their scheme is listed."""

import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pipeline import storage
from pipeline.errors import UserError
from pipeline.storage import arrow_files
from pipeline.storage.paths import require_url, scheme_of
from tests.pipeline.conftest import Told

Call = Callable[..., Told]
NAMES = (
    "results::1",
    "std::list",
    "a#b",
    "a?b",
    "a%20b",
    "[a-z]*",
    "{a,b}",
    "~nobody-here",
    "a b",
    "s3:",
    "..a",
    "\\",
    "é",
    "\n",
)


@given(name=st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=40))
@example(name="results::1")
@example(name="simplecache::s3:")
@example(name="~root")
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_name_is_a_file_of_its_own(tmp_path: Path, name: str) -> None:
    if name in (".", "..") or len(os.fsencode(name)) > 200:
        return
    path = f"{tmp_path}/{name}"
    storage.write_bytes(path, b"content")
    assert [os.fsdecode(entry) for entry in os.listdir(os.fsencode(tmp_path))] == [name]
    assert storage.exists(path)
    assert storage.read_bytes(path) == b"content"
    assert storage.read_range(path, 1, 3) == b"on"
    assert storage.size_of(path) == 7
    storage.remove(path)
    assert not storage.exists(path)


def test_every_writer_keeps_to_the_name(tmp_path: Path) -> None:
    for name in NAMES:
        below = tmp_path / "below"
        folder = below / name
        path = f"{folder}/a::b"
        with_arrow, root = arrow_files.file_system(path)  # as Ray Tune and Ray Train use it
        with_arrow.create_dir(root)
        with with_arrow.open_output_stream(f"{root}/c") as file:
            file.write(b"c")
        assert (folder / "a::b" / "c").read_bytes() == b"c"
        writer = storage.AtomicWriter(f"{folder}/large::1")
        writer.write(b"large")
        writer.commit()
        storage.append_line(f"{folder}/log::1", "line")
        assert arrow_files.source(f"{folder}/large::1").read() == b"large"
        assert storage.files_below(str(folder)) == ["large::1", "log::1"]
        assert storage.folders_below(str(folder)) == ["a::b"]
        assert os.listdir(below) == [name]
        for top, folders, files in os.walk(below, topdown=False):
            for inner in files:
                os.remove(os.path.join(top, inner))
            for inner in folders:
                os.rmdir(os.path.join(top, inner))


def test_a_command_leaves_the_file_before_the_colons_alone(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "ray://needs.no:1")
    monkeypatch.setattr("ray.is_initialized", lambda: False)  # other tests may share their Ray
    (tmp_path / "results").write_bytes(b"the only copy")
    (tmp_path / "folder").mkdir()
    for name in ("results::1", "folder::1", "new::1"):
        code, errors, _ = call("prepare", "--preset", "digits_ipc1", "--out", str(tmp_path / name))
        assert (code, len(errors)) == (2, 1)
        assert "ray://needs.no:1" in errors[0]
    assert (tmp_path / "results").read_bytes() == b"the only copy"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "results"]


@pytest.mark.parametrize(
    "path",
    [
        *(
            "http://127.0.0.1:9/a",
            "https://host/a",
            "ftp://host/a",
            "memory://a",
            "github://org:repo@/a",
            "S3://bucket/a",
        ),
        *(
            "simplecache::s3://bucket/a",
            "zip://a.zip::s3://bucket/b",
            "filecache::file:///a",
            "data://a",
            "://a",
            "git://a",
        ),
    ],
)
def test_other_urls_are_refused_in_one_line(call: Call, tmp_path: Path, path: str) -> None:
    for command in (["prepare", "--preset", "digits_ipc1", "--out", path], ["report", path], ["verify", path]):
        code, errors, _ = call(*command)
        assert (code, len(errors)) == (2, 1)
        assert "which is not opened; give a local path or s3://BUCKET/PREFIX" in errors[0]
    with pytest.raises(UserError, match="is not opened"):
        storage.read_bytes(path)


@pytest.mark.parametrize(
    ("path", "scheme"),
    [("/data/a://b", None), ("out::1", None), ("s3://b/a::b", "s3"), ("file:///a::b", "file"), ("a::b://c", "a::b")],
)
def test_the_scheme_stands_before_the_first_slash(path: str, scheme: str | None) -> None:
    assert scheme_of(path) == scheme
    assert storage.is_local(path) == (scheme in (None, "file"))


@pytest.mark.parametrize(
    "path",
    [
        *("s3://KEYKEYKEY:SECRETSECRET@bucket/a", "s3a://KEYKEYKEY@bucket/a", "s3://KEYKEYKEY:SEC/RETSECRET@bucket/a"),
        *("gs://user:SECRETSECRET@bucket/a", "hdfs://user:SECRETSECRET@host/a"),
    ],
)
def test_credentials_in_a_url_are_refused_and_never_repeated(call: Call, path: str) -> None:
    code, errors, output = call("prepare", "--preset", "digits_ipc1", "--out", path)
    assert (code, len(errors)) == (2, 1)
    assert "given a URL that contains credentials" in errors[0]
    for secret in ("KEYKEYKEY", "SECRETSECRET", "RETSECRET"):
        assert secret not in errors[0] + output


def test_paths_that_are_allowed() -> None:
    for path in (
        "s3://bucket/a@b",
        "s3://arn:aws:s3:eu-west-1:1:accesspoint/x/a@b",
        "abfs://container@account/a",
        "gs://b/c",
    ):
        require_url(path)
    with pytest.raises(UserError, match="names a version of an object"):
        require_url("s3://bucket/out?versionId=1")  # s3fs would write to s3://bucket/out


@pytest.mark.parametrize("path", ["", "a\0b", "a\ud800b"])
def test_paths_that_are_none(path: str) -> None:
    for operation in (storage.absolute, storage.read_bytes, storage.exists, storage.files_below, storage.AtomicWriter):
        with pytest.raises(UserError, match=r"^path '.*: (is empty|contains)"):
            operation(path)


def test_devices_and_pipes_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in ("/dev/zero", str(tmp_path / "pipe")):
        with pytest.raises(UserError, match=f"^{path}: is a (device|pipe)"):
            storage.read_json(path)


def test_a_log_does_not_follow_a_link(tmp_path: Path) -> None:
    (tmp_path / "profile").write_text("mine\n")
    (tmp_path / "events.jsonl").symlink_to(tmp_path / "profile")
    with pytest.raises(UserError, match=r"events\.jsonl: cannot be written"):
        storage.append_line(str(tmp_path / "events.jsonl"), "theirs")
    storage.write_bytes(str(tmp_path / "events.jsonl"), b"replaced")
    assert (tmp_path / "profile").read_text() == "mine\n"


def test_arrow_maps_a_file_whose_name_looks_like_a_url(tmp_path: Path) -> None:
    folder = tmp_path / "s3:"
    folder.mkdir()
    path = f"{tmp_path}/s3://a"
    storage.write_bytes(path, b"mapped")
    assert isinstance(arrow_files.source(path), pa.MemoryMappedFile)
    assert (folder / "a").read_bytes() == b"mapped"
