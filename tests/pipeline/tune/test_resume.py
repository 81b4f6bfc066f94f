"""A search that was interrupted: it is resumed from the records of its trials alone, and Ray's files are not read."""

import json
import os
import pickle
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import UserError
from pipeline.storage.documents import sealed
from pipeline.tune.results import SearchResult
from pipeline.tune.search import Search, run_trials
from pipeline.tune.search_folder import SearchFolder
from pipeline.tune.trial_store import TrialFolder
from tests.pipeline.support.runs import placement_of
from tests.pipeline.support.searches import (
    Call,
    ended,
    example_search,
    example_task,
    keyed,
    records,
    start_of,
    start_tune,
)

STAMP = "9999-01-01_00-00-00"
"""Later than that of every file of Ray's, which reads the newest."""
STATE_FILES = (
    "tuner.pkl",
    "trainable.pkl",
    f"experiment_state-{STAMP}.json",
    f"searcher-state-{STAMP}.pkl",
    f"search_gen_state-{STAMP}.json",
    f"basic-variant-state-{STAMP}.json",
    f"scheduler-state-{STAMP}.pkl",
)


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


@pytest.mark.slow
@pytest.mark.parametrize("searcher", [pytest.param("optuna", marks=pytest.mark.smoke), "random"])
def test_nothing_of_rays_files_is_unpickled_in_a_folder_that_was_moved(
    ray_cluster: None, call: Call, config_file: str, tmp_path: Path, searcher: str
) -> None:
    settings = ("--set", f"tune.searcher={searcher}", "--set", "tune.final=none", "--set", "tune.concurrent=1")
    tune = ("tune", "--config", config_file, "--trials", "3", *settings, "--out")
    assert call(*tune, str(tmp_path / "before"))[:2] == (0, [])
    out = (tmp_path / "before").rename(tmp_path / "moved")
    complete = records(out)
    last = max(complete, key=lambda key: json.loads(complete[key])["began"])
    shutil.rmtree(out / "trials" / last)

    marker = tmp_path / "marker"
    bomb = pickle.dumps(Bomb(marker))
    pickle.loads(bomb)
    marker.rmdir()  # it goes off
    state_files = [out / "search" / name for name in STATE_FILES]
    given = {"search.json", "record.json", "manifest.json"}  # what the search is, and what its trials gave
    found = [path for path in out.rglob("*") if path.is_file() and path.name not in given and path.suffix != ".arrow"]
    assert len([path for path in found if path.is_relative_to(out / "search")]) > 3
    for path in [*state_files, *found, *(path.parent / "error.pkl" for path in found), out / "trials" / "other.pkl"]:
        path.write_bytes(bomb)
    assert call(*tune, str(out), "--resume")[:2] == (0, [])
    assert not marker.exists()
    resumed = records(out)
    assert {key: resumed[key] for key in resumed if key != last} == {k: v for k, v in complete.items() if k != last}
    # With one trial at a time the missing trial is proposed again: the same values, the same accuracies.
    again, before = json.loads(resumed[last]), json.loads(complete[last])
    assert again["values"] == before["values"]
    assert [rung["accuracies"] for rung in again["rungs"]] == [rung["accuracies"] for rung in before["rungs"]]
    assert again["began"] > before["began"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_killed_search_is_resumed(config_file: str, tmp_path: Path) -> None:
    out, log = tmp_path / "search", tmp_path / "log"
    longer = ("--set", "tune.iterations=30", "--set", "tune.epochs=5", "--set", "tune.final=none")
    tune = ("--config", config_file, "--trials", "8", "--out", str(out), *longer)
    driver = start_tune(*tune, log=log)
    try:
        ends = time.monotonic() + 400
        while len(ended(out)) < 3:
            assert driver.poll() is None, log.read_text()
            assert time.monotonic() < ends, log.read_text()
            time.sleep(0.05)
        os.kill(driver.pid, signal.SIGKILL)
    finally:
        driver.kill()
        driver.wait(timeout=60)
    before = ended(out)
    assert len(records(out)) < 8, "the search was over before the kill"
    driver = start_tune(*tune, "--resume", log=log)
    try:
        assert driver.wait(timeout=400) == 0, log.read_text()
    finally:
        driver.kill()
    after = records(out)
    (given,) = [key for key, text in after.items() if json.loads(text)["values"] == start_of(config_file)]
    assert len(after) == 8, log.read_text()
    assert {key: after[key] for key in before if key != given} == {k: v for k, v in before.items() if k != given}
    assert {json.loads(text)["outcome"] for text in after.values()} <= {"finished", "stopped"}
    assert "8/8 trials" in log.read_text()


def test_every_file_of_a_search_may_be_a_pickle(call: Call, config_file: str, tmp_path: Path) -> None:
    search, result = search_in(tmp_path / "out", 9)
    folder, key = SearchFolder(str(tmp_path / "out")), result.trials[0].key
    marker = tmp_path / "marker"
    bomb = pickle.dumps(Bomb(marker))
    files = [folder.search_json, folder.clock, folder.final, folder.best, folder.trials_table]
    files += [folder.file("lease.json"), folder.file("trials", key, "record.json")]
    files += [folder.file("trials", key, "checkpoints", "group-00000.safetensors")]
    files += [folder.file("search", name) for name in STATE_FILES]
    for path in map(Path, files):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bomb)
    assert TrialFolder(search.task.out, key).read() is None
    assert TrialFolder(search.task.out, key).load() is None
    assert folder.seconds() == 0.0
    assert len(search.result().trials) == 6
    for read in (folder.read_record, lambda: folder.read_final("subset", [])):
        with pytest.raises(UserError, match=r"is not valid JSON"):
            read()
    code, errors, _ = call("tune", "--config", config_file, "--trials", "9", "--out", str(folder), "--resume")
    assert (code, len(errors)) == (2, 1)
    assert not marker.exists()


def test_a_trial_of_another_folder_is_not_read(tmp_path: Path) -> None:
    search, result = search_in(tmp_path / "out", 9)
    record = Path(search.task.out, result.trials[0].key, "record.json")
    for name in ("../../victim", "/victim", "", ".hidden"):
        document = json.loads(record.read_text())
        record.write_text(json.dumps(sealed({**document, "key": name})))
        assert len(search.result().trials) == 6


def search_in(out: Path, trials: int, time_budget_s: float | None = None) -> tuple[Search, SearchResult]:
    """A search whose folder holds the example's seven trials, all of them ended."""
    example, space = example_search()
    task = example_task(out, "tune.concurrent=1")
    result = keyed(example, task)
    for record in result.trials:
        task.folder(record.values).write(record)
    search = Search(
        config=task.config,
        task=task,
        space=space,
        folder=SearchFolder(str(out)),
        placement=placement_of(task.config),
        trials=trials,
        time_budget_s=time_budget_s,
    )
    return search, result


def test_a_time_budget_is_for_all_calls_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tuners: list[Any] = []
    monkeypatch.setattr("pipeline.tune.search._fit", lambda tuner: tuners.append(tuner) or 0)
    (tmp_path / "clock.json").write_text('{"seconds": 45.0}')
    run_trials(search_in(tmp_path, 9, 60.0)[0])
    assert tuners[0]._local_tuner._tune_config.time_budget_s == 15.0
    run_trials(search_in(tmp_path, 9)[0])
    assert tuners[1]._local_tuner._tune_config.time_budget_s is None


def test_only_the_trials_that_are_missing_are_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tuners: list[Any] = []
    monkeypatch.setattr("pipeline.tune.search._fit", lambda tuner: tuners.append(tuner) or 0)
    run_trials(search_in(tmp_path, 9)[0])
    assert tuners[0]._local_tuner._tune_config.num_samples == 2
    assert "7 of 9 trials have ended" in " ".join(capsys.readouterr().out.split())
    run_trials(search_in(tmp_path, 7)[0])
    assert len(tuners) == 1  # nothing is missing
    # An interrupted trial is run even if an older version recorded more trials than were asked for.
    search, result = search_in(tmp_path, 6)
    search.task.folder(result.trials[2].values).write(
        type(result.trials[2])(**{**vars(result.trials[2]), "outcome": "running"})
    )
    run_trials(search)
    assert tuners[1]._local_tuner._tune_config.num_samples == 1


def test_a_search_that_proposed_a_point_twice_has_nothing_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tuners: list[Any] = []

    def fit(tuner: Any) -> int:
        tuners.append(tuner)
        return tuner._local_tuner._tune_config.num_samples  # repeated points: no new records

    monkeypatch.setattr("pipeline.tune.search._fit", fit)
    run_trials(search_in(tmp_path, 9)[0])
    run_trials(search_in(tmp_path, 9)[0])
    assert len(tuners) == 1
    run_trials(search_in(tmp_path, 10)[0])
    assert tuners[1]._local_tuner._tune_config.num_samples == 1
    assert SearchFolder(str(tmp_path)).seconds() == 0.0  # the clock is beside it
    (tmp_path / "clock.json").unlink()  # as an older version left it: every record is one proposal
    run_trials(search_in(tmp_path, 9)[0])
    assert tuners[2]._local_tuner._tune_config.num_samples == 2


def test_records_of_another_source_do_not_count(tmp_path: Path) -> None:
    search, _ = search_in(tmp_path, 9)
    assert len(search.result().trials) == 7
    changed = replace(search, task=replace(search.task, class_shards="another-key"))
    assert changed.result().trials == ()


@pytest.mark.parametrize("name", ["trials", "whole", "class-shards"])
def test_a_search_is_not_resumed_through_a_link(call: Call, tmp_path: Path, name: str) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "search.json").write_text("{}")
    (tmp_path / "out" / name).symlink_to(tmp_path)
    command = ["tune", "--preset", "digits_ipc1", "--trials", "2", "--out", str(tmp_path / "out"), "--resume"]
    code, errors, _ = call(*command)
    assert (code, len(errors)) == (2, 1)
    assert f"{tmp_path / 'out' / name}: is a link, which may lead out of the folder" in errors[0]
