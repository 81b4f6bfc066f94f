"""Ray Tune's files of a search: whole ones are gone on with, those of two moments are not."""

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from pipeline.tune.experiment_state import is_whole

OLD, NEW = "2026-01-01_00-00-00", "2026-01-01_00-10-00"


def write_trials(folder: Path, stamp: str, **statuses: str) -> None:
    """The trials as Ray stores them: JSON within JSON."""
    trials = [
        (json.dumps({"trial_id": key, "status": status, "config": {"name": key}}), "{}")
        for key, status in statuses.items()
    ]
    (folder / f"experiment_state-{stamp}.json").write_text(json.dumps({"trial_data": trials}))
    (folder / "tuner.pkl").write_bytes(pickle.dumps({}))


def write_optuna(folder: Path, stamp: str, *, known: str, live: str) -> None:
    """Optuna's state, and that of the limiter around it."""
    state: dict[str, Any] = {"_ot_trials": dict.fromkeys(known)}
    (folder / f"searcher-state-{stamp}.pkl").write_bytes(pickle.dumps(state))
    state = {"name:ConcurrencyLimiter": {"live_trials": set(live)}, "name:OptunaSearch": {}, "_counter": 3}
    (folder / f"search_gen_state-{stamp}.json").write_bytes(pickle.dumps(state))


def write_random(folder: Path, stamp: str, live: str) -> None:
    """The state of a grid or of random values."""
    (folder / f"basic-variant-state-{stamp}.json").write_bytes(pickle.dumps({"_live_trials": set(live)}))


def whole(folder: Path, recorded: str | None = None) -> bool:
    """Whether it is gone on with; the trials that have a record are those of the fixture, or of a grid."""
    keys = set(recorded if recorded is not None else "ab")
    return is_whole(str(folder), keys, lambda values: values["name"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A whole state: a has ended, b and c have not."""
    write_trials(tmp_path, NEW, a="TERMINATED", b="RUNNING", c="PENDING")
    write_optuna(tmp_path, NEW, known="abc", live="bc")
    return tmp_path


def test_a_whole_state_is_gone_on_with(folder: Path) -> None:
    assert whole(folder)
    write_trials(folder, OLD, a="RUNNING")
    write_optuna(folder, OLD, known="a", live="a")
    assert whole(folder)  # of an earlier call
    assert not whole(folder / "nothing")


def test_files_of_two_moments_are_not(folder: Path) -> None:
    write_optuna(folder, NEW, known="ab", live="bc")
    assert not whole(folder), "Optuna would be told of a trial that it does not know"
    write_optuna(folder, NEW, known="abc", live="abc")
    assert not whole(folder), "the limiter would wait for a trial that has ended"
    write_optuna(folder, NEW, known="abc", live="b")
    assert not whole(folder)
    write_optuna(folder, NEW, known="abc", live="bc")
    assert whole(folder)


def test_a_state_that_the_records_are_ahead_of_is_not(folder: Path) -> None:
    assert whole(folder, "abc")
    assert whole(folder, "a")  # those under way may have no record yet
    assert not whole(folder, "abcd"), "a trial began after the state was written"
    assert not whole(folder, "b"), "the record of a trial that ended is gone"


@pytest.mark.parametrize("name", ["tuner.pkl", f"searcher-state-{NEW}.pkl", f"search_gen_state-{NEW}.json"])
def test_a_missing_or_older_file_is_not(folder: Path, name: str) -> None:
    if name != "tuner.pkl":
        (folder / name.replace(NEW, OLD)).write_bytes((folder / name).read_bytes())
    (folder / name).unlink()
    assert not whole(folder)


def test_a_cut_file_is_not(folder: Path) -> None:
    for path in folder.glob("*-state-*.pkl"):
        path.write_bytes(path.read_bytes()[:-4])
    assert not whole(folder)


def test_a_state_that_names_what_is_gone_is_not(folder: Path) -> None:
    (folder / "tuner.pkl").write_bytes(b"cpipeline.storage\nof_an_older_version\n.")
    assert not whole(folder)


def test_a_grid_has_a_file_of_its_own(tmp_path: Path) -> None:
    write_trials(tmp_path, NEW, a="ERROR", b="PAUSED")
    assert not whole(tmp_path)
    write_random(tmp_path, NEW, live="b")
    assert whole(tmp_path)
    write_random(tmp_path, NEW, live="ab")
    assert not whole(tmp_path)
