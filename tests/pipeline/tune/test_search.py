"""Whole searches with Ray Tune: what is written, failures, going on after a kill, resources."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pyarrow.parquet as pq
import pytest
from ray.tune.experiment.trial import Trial as TuneTrial
from ray.tune.schedulers import TrialScheduler

from pipeline.config.parsing import from_dict, to_dict, with_settings
from pipeline.tune.experiment_state import is_whole
from pipeline.tune.monitor import TuneMonitor, close, search_seconds
from pipeline.tune.schedulers import BUDGET, METRIC, scheduler
from pipeline.tune.search import _searcher, search
from pipeline.tune.space import default_space
from pipeline.tune.task import TrialTask
from tests.pipeline.conftest import Told
from tests.pipeline.support.runs import placement_of, prepared, small_config
from tests.pipeline.support.searches import SMALL, made_search, records, rung

ROOT = Path(__file__).resolve().parents[3]
Call = Callable[..., Told]


@pytest.fixture
def config_file(tmp_path: Path) -> str:
    """A small configuration whose class shards are made already, so that a search does not wait for Ray to make them."""
    config = small_config(*SMALL, f"data.cache={json.dumps(str(tmp_path / 'class-shards'))}")
    prepared(config, tmp_path)
    (tmp_path / "small.json").write_text(json.dumps(to_dict(config)))
    return str(tmp_path / "small.json")


@pytest.mark.slow
@pytest.mark.smoke
def test_a_search_from_start_to_best(ray_cluster: None, call: Call, config_file: str, tmp_path: Path) -> None:
    out = tmp_path / "search"
    tune = ("tune", "--config", config_file, "--trials", "4", "--out", str(out))
    code, errors, said = call(*tune)
    assert (code, errors) == (0, [])
    assert "winner" in said
    given = from_dict(json.loads(Path(config_file).read_text()), origin="small.json")
    held = {key: json.loads(text) for key, text in records(out).items()}
    assert len(held) == 4
    (first,) = [one for one in held.values() if one["values"] == default_space(given).start]
    # The trials of one moment begin in any order.
    assert first in sorted(held.values(), key=lambda record: record["began"])[:2]
    assert first["outcome"] == "finished"  # what the winner is compared with always is
    assert {record["outcome"] for record in held.values()} <= {"finished", "stopped"}
    rows = pq.read_table(out / "trials.parquet").to_pylist()
    assert sorted(row["key"] for row in rows) == sorted(held)
    (winner,) = [row for row in rows if row["winner"]]
    assert winner["accuracy"] == max(row["accuracy"] for row in rows if row["outcome"] == "finished")
    best = from_dict(json.loads((out / "best.json").read_text()), origin="best.json")
    assert best.condense.learning_rate == winner["condense.learning_rate"]
    assert (best.data, best.evaluate, best.condense.iterations) == (given.data, given.evaluate, 40)
    final = json.loads((out / "final.json").read_text())["rows"]
    assert {len(row["test"]) for row in final} == {2}
    assert list(out.glob("search/*/events.out.tfevents*")), "TensorBoard finds nothing"
    # Ray's files are such as are known here.
    assert is_whole(str(out / "search"), set(held), lambda values: key_of(held, values))
    assert search_seconds(str(out)) > 0
    assert (out / "tune.html").stat().st_size > 10_000

    before = {path: path.stat().st_mtime_ns for path in out.glob("trials/*/record.json")}
    tested = (out / "final.json").stat().st_mtime_ns
    code, errors, said = call(*tune)
    assert code == 2
    assert "--resume" in errors[0]
    code, errors, said = call(*tune, "--resume")
    assert (code, errors) == (0, [])
    assert {path: path.stat().st_mtime_ns for path in out.glob("trials/*/record.json")} == before
    assert (out / "final.json").stat().st_mtime_ns == tested  # the test set is looked at once
    code, errors, _ = call(*tune, "--resume", "--set", "condense.momentum=0.4", "--set", "resources.attempts=2")
    assert code == 2
    assert "condense.momentum" in errors[0]
    assert "attempts" not in errors[0]


def key_of(held: dict[str, dict[str, Any]], values: Mapping[str, Any]) -> str:
    """The key of the record with those values."""
    return next(key for key, record in held.items() if record["values"] == values)


@pytest.mark.slow
def test_a_failing_trial_does_not_stop_a_grid_that_sees_no_test_image(
    ray_cluster: None, call: Call, config_file: str, tmp_path: Path
) -> None:
    space = tmp_path / "space.yaml"
    space.write_text("condense.learning_rate: {grid: [1.0, 1e38, 2.0]}\n")
    shards = list((tmp_path / "class-shards").glob("*/test-*.arrow"))
    assert shards
    for path in shards:
        path.unlink()
    settings = ("--set", "tune.searcher=grid", "--set", "tune.final=none", "--set", "tune.scheduler=none")
    tune = ("tune", "--config", config_file, "--space", str(space), "--out", str(tmp_path / "search"), *settings)
    code, errors, _ = call(*tune, "--trials", "2")
    assert code == 2
    assert "the grid has 3 trials" in errors[0]  # the given configuration is one of them
    code, errors, _ = call(*tune, "--trials", "3")
    assert (code, errors) == (0, [])
    held = [json.loads(text) for text in records(tmp_path / "search").values()]
    outcomes = {record["values"]["condense.learning_rate"]: record["outcome"] for record in held}
    assert outcomes == {1.0: "finished", 2.0: "finished", 1e38: "failed"}
    assert not (tmp_path / "search" / "final.json").exists()


@pytest.mark.slow
def test_random_values_median_stopping_and_whole_runs(
    ray_cluster: None, call: Call, config_file: str, tmp_path: Path
) -> None:
    out = tmp_path / "search"
    settings = [f"--set=tune.{text}" for text in ("searcher=random", "scheduler=median", "final=whole", "classes=2")]
    code, errors, _ = call("tune", "--config", config_file, "--trials", "3", "--out", str(out), *settings)
    assert (code, errors) == (0, [])
    assert len(records(out)) == 3
    assert json.loads((out / "search.json").read_text())["labels"] != [0, 1, 2, 3]
    for row in json.loads((out / "final.json").read_text())["rows"]:
        assert (row["classes"], row["iterations"], len(row["test"])) == (4, 40, 2)


def test_a_trial_that_no_node_can_hold_is_refused_at_once(
    ray_cluster: None, call: Call, config_file: str, tmp_path: Path
) -> None:
    for setting, needed in (("gpus_per_actor=0.5", "0.5 GPUs"), ("cpus_per_actor=64", "64 CPUs")):
        out = tmp_path / "search"
        code, errors, _ = call(
            "tune", "--config", config_file, "--trials", "2", "--out", str(out), "--set", f"resources.{setting}"
        )
        assert code == 2
        assert len(errors) == 1
        assert needed in errors[0]
        assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--trials", "0"], "--trials 0"),
        (["--trials", "2", "--time-budget", "soon"], "--time-budget soon"),
        (["--trials", "2", "--set", "tune.loggers=wandb"], "wandb is not installed"),
        (["--trials", "2", "--set", "kernel.name=gausian"], "did you mean 'gaussian'"),
    ],
)
def test_mistakes_are_one_line(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    code, errors, _ = call("tune", "--preset", "digits_ipc1", "--out", str(tmp_path / "search"), *arguments)
    assert code == 2
    assert len(errors) == 1
    assert said in errors[0]
    assert not (tmp_path / "search").exists()


def test_the_folder_of_a_run_is_refused(call: Call, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    code, errors, _ = call("tune", "--preset", "digits_ipc1", "--trials", "2", "--out", str(tmp_path))
    assert code == 2
    assert "holds a run" in errors[0]


# Schedulers and records after a kill


@dataclass(frozen=True, eq=False)
class OfTune:
    """What a scheduler and a callback look at of Tune's own trial."""

    trial_id: str
    status: str
    config: dict[str, Any]

    def get_error(self) -> Exception:
        """Of a trial that failed."""
        return RuntimeError("killed by the system\nmore")


def restored_trial(task: TrialTask, number: int, rate: float, status: str) -> Any:
    """What Tune hands to a scheduler, with a record of one rung below the task's folder."""
    values = {"condense.learning_rate": rate}
    folder = task.folder(values)
    held = folder.begin(values)
    folder.write(
        type(held)(
            **{**vars(held), "rungs": (rung(task.rungs[0], 10.0 * number, 10.0 * number),), "outcome": "stopped"}
        )
    )
    return OfTune(f"t{number}", status, values)


@pytest.mark.parametrize("kind", ["asha", "median"])
def test_a_scheduler_knows_what_ended_before(tmp_path: Path, kind: str) -> None:
    config = with_settings(small_config(*SMALL), [f"tune.scheduler={kind}"])
    task = TrialTask(config=config, out=str(tmp_path), cache="c", labels=(0, 1), rungs=(3, 9), threads=1)
    made: Any = scheduler(config, task)
    assert made.__class__.__name__ == {"asha": "Halving", "median": "Median"}[kind]
    made.set_search_properties(METRIC, "max")
    for number in (4, 5, 6, 7):
        made.on_trial_add(None, restored_trial(task, number, float(number), TuneTrial.TERMINATED))
    new = OfTune("new", TuneTrial.PENDING, {"condense.learning_rate": 99.0})
    made.on_trial_add(None, new)
    assert made.on_trial_result(None, new, {METRIC: 20.0, BUDGET: 1}) == TrialScheduler.STOP
    good = OfTune("good", TuneTrial.PENDING, {"condense.learning_rate": 98.0})
    made.on_trial_add(None, good)
    assert made.on_trial_result(None, good, {METRIC: 80.0, BUDGET: 1}) == TrialScheduler.CONTINUE


def test_a_rung_that_is_told_again_counts_once_for_the_median(tmp_path: Path) -> None:
    config = with_settings(small_config(*SMALL), ["tune.scheduler=median"])
    task = TrialTask(config=config, out=str(tmp_path), cache="c", labels=(0, 1), rungs=(3, 9), threads=1)
    made: Any = scheduler(config, task)
    made.set_search_properties(METRIC, "max")
    trial: Any = OfTune("t", TuneTrial.PENDING, {"condense.learning_rate": 1.0})
    made.on_trial_add(None, trial)
    controller: Any = SimpleNamespace(get_live_trials=lambda: [OfTune("u", TuneTrial.PENDING, {})])
    for accuracy, budget in ((40.0, 1), (40.0, 1), (90.0, 3), (40.0, 1), (90.0, 3)):
        # Ray's own rule pauses a trial that it cannot compare yet.
        assert made.on_trial_result(controller, trial, {METRIC: accuracy, BUDGET: budget}) == TrialScheduler.CONTINUE
    assert sorted(one[METRIC] for one in made._results[trial]) == [40.0, 90.0]


def test_a_budget_of_all_calls_is_what_is_left_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held, space = made_search()
    config = small_config(*SMALL, "tune.concurrent=1")
    task = TrialTask(config=config, out=str(tmp_path / "trials"), cache="c", labels=(0, 1), rungs=held.rungs, threads=1)
    (tmp_path / "clock.json").write_text('{"seconds": 45.0}')
    made: list[Any] = []
    monkeypatch.setattr("pipeline.tune.search._fit", made.append)
    placement = placement_of(config)
    search(config, task, space, str(tmp_path), placement, trials=3, time_budget_s=60.0)
    assert made[0]._local_tuner._tune_config.time_budget_s == 15.0
    search(config, task, space, str(tmp_path), placement, trials=3, time_budget_s=None)
    assert made[1]._local_tuner._tune_config.time_budget_s is None


def test_what_follows_a_lost_state_is_drawn_anew() -> None:
    held, space = made_search()
    draws = []
    for found in (held, replace(held, trials=())):
        config = with_settings(small_config(*SMALL), ["tune.searcher=random"])
        made = _searcher(config, space, found, 30, 3)
        assert made.max_concurrent == 3
        draws.append(made._random_state.integers(2**31))
    assert draws[0] != draws[1]


def test_a_trial_whose_process_died_is_recorded(tmp_path: Path) -> None:
    held, _ = made_search()
    task = TrialTask(
        config=small_config(*SMALL), out=str(tmp_path), cache="c", labels=(0, 1), rungs=held.rungs, threads=1
    )
    trial: Any = OfTune("t", TuneTrial.ERROR, {"kernel.scales": 3})
    TuneMonitor(task, 2, "", str(tmp_path)).on_trial_error(0, [trial], trial)
    record = task.folder(trial.config).read()
    assert record is not None
    assert (record.outcome, record.why) == ("lost", "RuntimeError: killed by the system")
    again = task.folder(trial.config).begin(trial.config)  # what it ran on was to blame: it runs again
    assert (again.outcome, again.why) == ("running", "")


def test_the_clock_of_a_search_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("pipeline.tune.monitor.time.monotonic", lambda: now[0])
    monkeypatch.setattr("pipeline.tune.monitor.Display", lambda *_: MagicMock())
    task = TrialTask(config=small_config(*SMALL), out=str(tmp_path), cache="c", labels=(0, 1), rungs=(3,), threads=1)
    assert search_seconds(str(tmp_path)) == 0
    for expected in (30.0, 60.0):
        watch = TuneMonitor(task, 2, "", str(tmp_path))
        watch.setup()
        now[0] += 30
        watch.on_step_end(0, [])
        assert search_seconds(str(tmp_path)) == expected
        now[0] += 1000  # between the calls
    close()


# Real processes


def start(*arguments: str, log: Path) -> "subprocess.Popen[bytes]":
    """``python -m pipeline tune`` as a process of its own, with a Ray of its own."""
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(ROOT)}
    environment.pop("RAY_ADDRESS", None)
    with log.open("ab") as sink:
        return subprocess.Popen(
            [sys.executable, "-m", "pipeline", "tune", *arguments],
            env=environment,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_killed_search_goes_on(config_file: str, tmp_path: Path) -> None:
    out, log = tmp_path / "search", tmp_path / "log"
    longer = ("--set", "tune.iterations=30", "--set", "tune.epochs=5", "--set", "tune.final=none")
    tune = ("--config", config_file, "--trials", "8", "--out", str(out), *longer)
    driver = start(*tune, log=log)
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
    driver = start(*tune, "--resume", log=log)
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


def start_of(config_file: str) -> dict[str, Any]:
    """The values of the given configuration."""
    return default_space(from_dict(json.loads(Path(config_file).read_text()), origin="small.json")).start


def ended(out: Path) -> dict[str, bytes]:
    """The records of trials that are over."""
    return {key: text for key, text in records(out).items() if json.loads(text)["outcome"] != "running"}


EIGHT = """
import ray, sys
ray.init(address="local", num_cpus=2, num_gpus=4, include_dashboard=False, log_to_driver=False)
from pipeline.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_eight_trials_share_four_gpus(config_file: str, tmp_path: Path) -> None:
    out = tmp_path / "search"
    shares = ("--set", "resources.gpus_per_actor=0.5", "--set", "resources.cpus_per_actor=0.25")
    longer = ("--set", "tune.iterations=1500", "--set", "tune.rungs=1", "--set", "tune.final=none")
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(ROOT)}
    environment.pop("RAY_ADDRESS", None)
    arguments = ["tune", "--config", config_file, "--trials", "10", "--out", str(out), *shares, *longer]
    done = subprocess.run(
        [sys.executable, "-c", EIGHT, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=800,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    held = [json.loads(text) for text in records(out).values()]
    spans = [(record["began"], record["began"] + record["rungs"][-1]["seconds"]) for record in held]
    at_once = max(sum(begin <= moment < end for begin, end in spans) for moment, _ in spans)
    assert at_once == 8
