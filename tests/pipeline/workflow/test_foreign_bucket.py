"""A run in a bucket of somebody else, with every trick in its documents: only that bucket is read and written."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline import storage
from pipeline.condense.manifest import new_record
from pipeline.formats.run_folder import RunFolder
from pipeline.storage.documents import sealed
from tests.pipeline.conftest import Told
from tests.pipeline.evaluate.test_stage import condensed_run
from tests.pipeline.support.foreign import Stranger
from tests.pipeline.support.runs import placement_of, small_config
from tests.pipeline.support.s3_service import SECRET
from tests.pipeline.support.source_formats import upload

Call = Callable[..., Told]
CONFIG = small_config(iterations=2)


@pytest.fixture
def stranger() -> Iterator[Stranger]:
    made = Stranger()
    yield made
    made.stop()


@pytest.fixture
def run(bucket: str, tmp_path: Path, stranger: Stranger) -> str:
    """A finished run, uploaded, whose record names another server and a folder of the reader."""
    out = tmp_path / "made" / "run"
    dataset = condensed_run(CONFIG, out)
    record = new_record(CONFIG, dataset, placement_of(CONFIG))
    record["config"]["storage"]["endpoint"] = stranger.endpoint
    record["config"]["data"]["disk_cache"] = str(tmp_path / "mine")
    record["resolved"]["class_shards"] = f"{bucket}/run/class-shards/{dataset.key}"
    RunFolder.at(out).write_record(record)
    upload(out, f"{bucket}/run")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "own.arrow").write_bytes(b"the only copy")
    return f"{bucket}/run"


@pytest.fixture(autouse=True)
def _copies_in_a_folder_of_the_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))


def change(path: str, **entries: str) -> None:
    """Changes entries of every class in a manifest of class shards and seals it again."""
    document = json.loads(storage.read_bytes(path))
    for entry in document["classes"]:
        for split in ("train", "test"):
            entry[split].update(entries)
    storage.write_json(path, sealed(document))


def test_an_own_run_in_a_bucket_needs_no_option_but_its_endpoint(call: Call, run: str, tmp_path: Path) -> None:
    code, errors, output = call("verify", run)
    assert (code, errors) == (0, [])
    assert "nothing is wrong (4 classes, 2 shards, the run around them)" in output
    assert "not checked" not in output
    assert call("report", run)[:2] == (0, [])
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["own.arrow"]


def test_nobody_else_is_called_and_nothing_outside_is_written(
    call: Call, run: str, stranger: Stranger, tmp_path: Path
) -> None:
    (manifest,) = [f"{run}/class-shards/{key}/manifest.json" for key in storage.folders_below(f"{run}/class-shards")]
    before = {name: tag for name, _, tag in storage.tree(run)}
    for entries in (
        {"sha256": f"{tmp_path}/mine/own"},
        {"sha256": "../mine/own"},
        {"file": "../../../elsewhere.arrow"},
        {"file": f"{tmp_path}/mine/own.arrow"},
    ):
        change(manifest, **entries)
        code, errors, output = call("verify", run)
        assert (code, errors) == (1, [])
        assert "is damaged or was not written by this program" in output
        assert SECRET not in output
        for command in (["evaluate", run], ["compare", run, f"{run}/condensed"]):
            code, errors, output = call(*command)
            assert (code, len(errors)) == (2, 1)
            assert "is damaged or was not written by this program" in errors[0]
            assert SECRET not in errors[0] + output
    assert (tmp_path / "mine" / "own.arrow").read_bytes() == b"the only copy"
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == ["own.arrow"]
    after = {name: tag for name, _, tag in storage.tree(run)}
    assert {name for name in before if before[name] != after.get(name)} == {manifest.removeprefix(f"{run}/")}
    assert stranger.seen == []
