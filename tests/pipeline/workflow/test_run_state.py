"""What is finished of a run, and which class shards it uses."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.condense.manifest import new_record
from pipeline.config.parsing import with_settings
from pipeline.config.run_config import RunConfig
from pipeline.data.prepared_dataset import PreparedDataset, is_within_reach
from pipeline.data.shard_plan import plan_shards
from pipeline.errors import UserError
from pipeline.formats.run_folder import RunFolder
from pipeline.storage.documents import sealed
from pipeline.workflow import run_state
from pipeline.workflow.run_state import Run, require_same_classes, stored_run
from pipeline.workflow.verify import verify
from tests.pipeline.evaluate.test_stage import condensed_run
from tests.pipeline.support.runs import placement_of, prepared, small_config

CONFIG = small_config(iterations=2)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run whose condensed set is finished and not evaluated."""
    dataset = condensed_run(CONFIG, tmp_path)
    run = Run.at(str(tmp_path), CONFIG)
    run.folder.write_record(new_record(CONFIG, dataset, placement_of(CONFIG)))
    return run


def test_an_empty_folder_has_nothing_finished(tmp_path: Path) -> None:
    run = Run.at(str(tmp_path / "new"), CONFIG)
    assert not run.is_condensed()
    assert not run.is_finished()
    run.require_no_other()


def test_a_condensed_set_without_rows_is_condensed_and_not_evaluated(run: Run) -> None:
    assert run.is_condensed()
    assert not run.is_evaluated()
    assert not run.is_finished()


def test_a_missing_shard_is_not_condensed(run: Run) -> None:
    Path(run.folder.condensed, "shard-00001.arrow").unlink()
    assert not run.is_condensed()


def test_a_run_of_other_settings_is_refused(run: Run) -> None:
    other = replace(run, config=with_settings(CONFIG, ["condense.iterations=3"]))
    with pytest.raises(UserError, match=r"condense\.iterations"):
        other.is_condensed()
    with pytest.raises(UserError, match=r"condense\.iterations"):
        other.require_no_other()


def test_soft_labels_need_a_teacher(run: Run) -> None:
    run.require_teacher()
    with pytest.raises(UserError, match=r"python -m pipeline pretrain"):
        replace(run, config=with_settings(CONFIG, ["evaluate.labels=soft"])).require_teacher()


def test_class_shards_are_those_that_the_run_began_with(run: Run, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere" / Path(run.class_shards().folder).name
    shutil.copytree(run.class_shards().folder, moved)
    record = run.folder.read_record()
    assert record is not None
    record["resolved"]["class_shards"] = str(moved)
    run.folder.write_record(record)
    assert run.class_shards().folder == str(moved)


def test_a_moved_run_has_its_class_shards_below_it(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = run.class_shards().key
    home = tmp_path / "home"
    shutil.copytree(run.folder.path, home, ignore=shutil.ignore_patterns("home"))
    shutil.move(run.class_shards().folder, home / "class-shards" / key)
    moved = Run.at(str(home), CONFIG)

    def no_source(*_: object, **__: object) -> None:
        raise UserError("the source does not exist")

    monkeypatch.setattr(run_state, "prepare", no_source)
    assert moved.class_shards().folder == str(home / "class-shards" / key)
    assert not [line for line in verify(str(home))[1] if "class-shards" in line]
    (home / "class-shards" / key / "manifest.json").unlink()
    with pytest.raises(UserError, match=r"the source does not exist \(the run's class shards are missing as well"):
        moved.class_shards()


@pytest.mark.parametrize("changed", [False, True])
def test_missing_class_shards_are_made_again_from_the_same_source_only(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: bool
) -> None:
    before = run.class_shards()
    shutil.rmtree(before.folder)
    source = with_settings(CONFIG, ["data.image_size=12"]) if changed else CONFIG

    def prepare(config: RunConfig, folder: RunFolder, *, condensing: bool = False) -> PreparedDataset:
        return prepared(source, tmp_path)

    monkeypatch.setattr(run_state, "prepare", prepare)
    if changed:
        with pytest.raises(UserError, match="has changed since this run began"):
            run.class_shards()
    else:
        assert run.class_shards().key == before.key


def test_a_stored_run_is_found_from_its_folder_and_from_its_condensed_set(run: Run) -> None:
    assert stored_run(str(run.folder)) == run
    assert stored_run(run.folder.condensed) == run


def test_a_condensed_set_alone_has_the_settings_of_its_manifest(run: Run, tmp_path: Path) -> None:
    alone = tmp_path / "sets" / "mine"
    shutil.copytree(run.folder.condensed, alone)
    stored = stored_run(str(alone))
    assert stored.folder == RunFolder.at(alone)
    assert stored.config.condense == CONFIG.condense
    document = json.loads((alone / "manifest.json").read_text())
    del document["config"]
    (alone / "manifest.json").write_text(json.dumps(sealed(document)))
    with pytest.raises(UserError, match="does not contain the settings"):
        stored_run(str(alone))


def test_a_stored_run_must_be_condensed(run: Run) -> None:
    Path(run.folder.condensed, "manifest.json").unlink()
    with pytest.raises(UserError, match="the condensed set is not finished"):
        stored_run(str(run.folder))


def test_data_of_other_classes_are_refused(run: Run, tmp_path: Path) -> None:
    require_same_classes(run.folder, run.class_shards())
    other = prepared(with_settings(CONFIG, ["data.classes=0,1,2,5"]), tmp_path / "other")
    with pytest.raises(UserError, match="class names differ"):
        require_same_classes(run.folder, other)


@pytest.mark.parametrize("linked", ["", "listing"])
def test_class_shards_are_not_written_through_a_link(tmp_path: Path, linked: str) -> None:
    folder = Path(plan_shards(CONFIG.data, str(tmp_path / "cache")).folder)
    mine = tmp_path / "mine"
    mine.mkdir()
    (folder / linked).parent.mkdir(parents=True, exist_ok=True)
    (folder / linked).symlink_to(mine)
    with pytest.raises(UserError, match="is a link, which may lead out of the folder"):
        plan_shards(CONFIG.data, str(tmp_path / "cache"))
    assert not list(mine.iterdir())


def test_a_stored_disk_cache_alone_stops_no_evaluation(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(run.class_shards().folder)

    def no_source(*_: object, **__: object) -> None:
        raise UserError("the source does not exist")

    monkeypatch.setattr(run_state, "prepare", no_source)
    for left_out in (("data.disk_cache=/fast",), ("data.disk_cache=/fast", "data.path=/images")):
        stored = replace(run, is_adopted=True, left_out=left_out)
        with pytest.raises(UserError) as caught:
            stored.class_shards()
        assert ("contains no class shards" in str(caught.value)) == (len(left_out) == 2)


def test_class_shards_in_a_bucket_that_the_command_does_not_name_are_asked_for(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = run.class_shards().key
    monkeypatch.setattr(run_state, "prepare", lambda *_, **__: pytest.fail("decodes the source"))
    record = run.folder.read_record()
    assert record is not None
    record["resolved"]["class_shards"] = f"memory://elsewhere/cache/{key}"
    run.folder.write_record(record)
    assert run.class_shards().key == key  # those below the run
    shutil.move(run.folder.class_shards, tmp_path / "away")
    with pytest.raises(UserError) as caught:
        run.class_shards()
    assert f"are in memory://elsewhere/cache/{key}; add --set data.cache=memory://elsewhere/cache, or" in str(
        caught.value
    )


@pytest.mark.parametrize(
    ("place", "reached"),
    [("s3://mine/cache/0a", True), ("s3://mine-too/cache/0a", False), ("gs://mine/0a", False), ("/cache/0a", True)],
)
def test_a_recorded_place_is_where_the_command_goes_anyway(run: Run, place: str, reached: bool) -> None:
    assert is_within_reach(place, RunFolder.at("s3://mine/run"), CONFIG) == reached
    config = with_settings(CONFIG, ["data.path=s3://mine/images"])
    assert is_within_reach(place, run.folder, config) == reached
