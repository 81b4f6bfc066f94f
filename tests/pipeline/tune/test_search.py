"""Complete searches with Ray Tune: the files that they write, failing trials, mistakes of the user, resources."""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipeline.config.parsing import from_dict
from pipeline.tune.search_folder import SearchFolder
from pipeline.tune.space import default_space
from tests.pipeline.support.searches import Call, environment_of_its_own, records


@pytest.mark.slow
@pytest.mark.smoke
def test_a_search_from_start_to_best(ray_cluster: None, call: Call, config_file: str, tmp_path: Path) -> None:
    values = json.loads(Path(config_file).read_text())
    values["data"]["name"] = "CIFAR10"  # of a preset, whose data were not read
    Path(config_file).write_text(json.dumps(values))
    out = tmp_path / "search"
    tune = ("tune", "--config", config_file, "--trials", "4", "--out", str(out))
    code, errors, output = call(*tune)
    assert (code, errors) == (0, [])
    assert "winner" in output
    given = from_dict(json.loads(Path(config_file).read_text()), origin="small.json")
    stored = {key: json.loads(text) for key, text in records(out).items()}
    assert len(stored) == 4
    (first,) = [record for record in stored.values() if record["values"] == default_space(given).start]
    # Trials that start at the same time begin in any order.
    assert first in sorted(stored.values(), key=lambda record: record["began"])[:2]
    assert first["outcome"] == "finished"  # the winner is always compared with it
    assert {record["outcome"] for record in stored.values()} <= {"finished", "stopped"}
    rows = pq.read_table(out / "trials.parquet").to_pylist()
    assert sorted(row["key"] for row in rows) == sorted(stored)
    (winner,) = [row for row in rows if row["winner"]]
    assert winner["accuracy"] == max(row["accuracy"] for row in rows if row["outcome"] == "finished")
    best = from_dict(json.loads((out / "best.json").read_text()), origin="best.json")
    assert best.condense.learning_rate == winner["condense.learning_rate"]
    assert (best.data, best.evaluate, best.condense.iterations) == (given.data, given.evaluate, 40)
    final = json.loads((out / "final.json").read_text())["rows"]
    assert {len(row["test"]) for row in final} == {2}
    assert list(out.glob("search/*/events.out.tfevents*")), "TensorBoard finds nothing"
    assert SearchFolder(str(out)).seconds() > 0
    assert (out / "tune.html").stat().st_size > 10_000
    assert "<h1>Search: digits</h1>" in (out / "tune.html").read_text()

    before = {path: path.stat().st_mtime_ns for path in out.glob("trials/*/record.json")}
    tested = (out / "final.json").stat().st_mtime_ns
    code, errors, output = call(*tune)
    assert code == 2
    assert "--resume" in errors[0]
    code, errors, output = call(*tune, "--resume")
    assert (code, errors) == (0, [])
    assert {path: path.stat().st_mtime_ns for path in out.glob("trials/*/record.json")} == before
    assert (out / "final.json").stat().st_mtime_ns == tested  # the test set is used once
    code, errors, _ = call(*tune, "--resume", "--set", "condense.momentum=0.4", "--set", "resources.attempts=2")
    assert code == 2
    assert "condense.momentum" in errors[0]
    assert "attempts" not in errors[0]


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
    stored = [json.loads(text) for text in records(tmp_path / "search").values()]
    outcomes = {record["values"]["condense.learning_rate"]: record["outcome"] for record in stored}
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
    ("arguments", "message"),
    [
        (["--trials", "0"], "--trials 0"),
        (["--trials", "2", "--time-budget", "soon"], "--time-budget soon"),
        (["--trials", "2", "--set", "tune.loggers=wandb"], "wandb is not installed"),
        (["--trials", "2", "--set", "kernel.name=gausian"], "did you mean 'gaussian'"),
    ],
)
def test_mistakes_are_one_line(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    code, errors, _ = call("tune", "--preset", "digits_ipc1", "--out", str(tmp_path / "search"), *arguments)
    assert code == 2
    assert len(errors) == 1
    assert message in errors[0]
    assert not (tmp_path / "search").exists()


def test_the_folder_of_a_run_is_refused(call: Call, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    code, errors, _ = call("tune", "--preset", "digits_ipc1", "--trials", "2", "--out", str(tmp_path))
    assert code == 2
    assert "holds a run" in errors[0]


FOUR_GPUS = """
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
    arguments = ["tune", "--config", config_file, "--trials", "10", "--out", str(out), *shares, *longer]
    done = subprocess.run(
        [sys.executable, "-c", FOUR_GPUS, *arguments],
        env=environment_of_its_own(),
        capture_output=True,
        text=True,
        timeout=800,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    stored = [json.loads(text) for text in records(out).values()]
    spans = [(record["began"], record["began"] + record["rungs"][-1]["seconds"]) for record in stored]
    at_once = max(sum(begin <= moment < end for begin, end in spans) for moment, _ in spans)
    assert at_once == 8
