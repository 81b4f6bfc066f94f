"""The folder of a run: names of its files, its record, and whether another run may use it."""

from dataclasses import replace
from pathlib import Path

import pytest

from pipeline import storage
from pipeline.condense.manifest import new_record
from pipeline.config.run_config import RunConfig
from pipeline.errors import UserError
from pipeline.formats.run_folder import RunFolder
from pipeline.formats.run_record import RunRecord
from tests.pipeline.support.condensed_sets import write_set
from tests.pipeline.support.runs import placement_of, prepared, small_config

NAMES = {
    "config_json": "config.json",
    "class_shards": "class-shards",
    "checkpoints": "checkpoints",
    "condensed": "condensed",
    "metrics": "metrics.jsonl",
    "snapshots": "snapshots",
    "evolution": "evolution.webp",
    "events": "events.jsonl",
    "tensorboard": "tensorboard",
    "trackers": "trackers.json",
    "evaluation": "evaluation.json",
    "matrices": "evaluation",
    "partial_evaluation": "evaluation-partial.json",
    "networks": "networks",
    "baselines": "baselines",
    "feature_network": "feature-network.safetensors",
    "grid": "grid.png",
    "report": "report.html",
    "experts": "experts",
}


@pytest.fixture
def run(tmp_path: Path) -> tuple[RunFolder, RunConfig, RunRecord]:
    """A folder with the record of a run."""
    config, folder = small_config(), RunFolder.at(tmp_path / "run")
    record = new_record(config, prepared(config, tmp_path), placement_of(config))
    folder.write_record(record)
    return folder, config, record


@pytest.mark.parametrize(("name", "path"), NAMES.items())
def test_names_are_those_of_old_commits(name: str, path: str) -> None:
    assert getattr(RunFolder("/runs/a"), name) == f"/runs/a/{path}"
    assert getattr(RunFolder("s3://bucket/a"), name) == f"s3://bucket/a/{path}"


def test_every_path_has_a_name_in_this_test() -> None:
    properties = {name for name, value in vars(RunFolder).items() if isinstance(value, property)}
    assert properties == set(NAMES)


def test_a_relative_path_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert str(RunFolder.at("run")) == f"{tmp_path}/run"
    assert RunFolder.at("s3://bucket/run/").file("a", "b") == "s3://bucket/run/a/b"


def test_the_record_is_read_as_it_was_written(run: tuple[RunFolder, RunConfig, RunRecord]) -> None:
    folder, config, record = run
    read = folder.read_record()
    assert read is not None
    assert {key: value for key, value in read.items() if key != "checksum"} == record
    assert folder.read_config() == config


def test_without_a_record(tmp_path: Path) -> None:
    assert RunFolder.at(tmp_path).read_record() is None
    assert RunFolder.at(tmp_path / "absent").read_record() is None
    with pytest.raises(UserError, match=r"holds no run \(no config\.json\); give the folder that was --out"):
        RunFolder.at(tmp_path).read_config()
    with pytest.raises(UserError, match="does not exist; give the folder"):
        RunFolder.at(tmp_path / "absent").read_config()
    assert RunFolder.at(tmp_path).exists()
    assert not RunFolder.at(tmp_path / "absent").exists()


def test_a_damaged_record_is_refused(run: tuple[RunFolder, RunConfig, RunRecord]) -> None:
    folder, _, _ = run
    path = Path(folder.config_json)
    path.write_text(path.read_text().replace('"iterations": 40', '"iterations": 41'))
    for read in (folder.read_record, folder.read_config):
        with pytest.raises(UserError, match=r"config\.json: is damaged or was changed by hand"):
            read()
    path.write_text("{")
    with pytest.raises(UserError, match=r"config\.json: is not valid JSON"):
        folder.read_record()


def test_a_file_is_not_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UserError, match="is a file, or lies below one; give a folder"):
            RunFolder.at(path).read_record()


def test_another_runs_settings_are_refused(run: tuple[RunFolder, RunConfig, RunRecord]) -> None:
    folder, config, record = run
    folder.require_same_run(record, config)
    free = small_config("resources.actors=1", "pretrain.epochs=3", "data.disk_cache_gib=1", "tune.rungs=2")
    folder.require_same_run(record, free)
    with pytest.raises(
        UserError, match=r"another configuration, differing in seed, condense\.iterations; choose another --out"
    ):
        folder.require_same_run(record, replace(small_config("condense.iterations=7"), seed=5))


def test_a_set_is_committed_when_all_its_shards_exist(tmp_path: Path) -> None:
    folder = RunFolder.at(tmp_path)
    assert not folder.is_committed()
    write_set(tmp_path / "condensed")
    assert folder.is_committed()
    assert folder.read_manifest()["factor"] == 2
    storage.remove(folder.file("condensed", "shard-00001.arrow"))
    assert not folder.is_committed()
    (tmp_path / "condensed" / "manifest.json").write_text("[]")
    with pytest.raises(UserError, match=r"manifest\.json"):
        folder.is_committed()
