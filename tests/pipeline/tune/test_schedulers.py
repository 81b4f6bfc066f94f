"""Schedulers: the trials of earlier calls count, and a rung that is reported again counts once."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.experiment.trial import Trial as TuneTrial
from ray.tune.schedulers import TrialScheduler

from pipeline.tune.schedulers import BUDGET, METRIC, reports, scheduler
from tests.pipeline.support.searches import example_search, example_task, example_trial, rung


def tune_trial(name: str) -> Any:
    """What Ray Tune hands to a scheduler."""
    return TuneTrial("example", trial_id=name, stub=True)


@pytest.mark.parametrize("kind", ["asha", "median"])
def test_a_scheduler_knows_the_trials_of_earlier_calls(tmp_path: Path, kind: str) -> None:
    task = example_task(tmp_path, f"tune.scheduler={kind}")
    ended = [example_trial(n, {}, [rung(3, 10.0 * n, 10.0 * n)], "stopped") for n in (4, 5, 6, 7)]
    ended.append(example_trial(8, {}, [], "stopped"))  # the time budget ended before its first rung
    resumed: Any = scheduler(task, ended)
    assert resumed.__class__.__name__ == {"asha": "AsyncHyperBandScheduler", "median": "Median"}[kind]
    new = tune_trial("new")
    resumed.on_trial_add(None, new)
    assert resumed.on_trial_result(None, new, {METRIC: 20.0, BUDGET: 1}) == TrialScheduler.STOP
    good = tune_trial("good")
    resumed.on_trial_add(None, good)
    assert resumed.on_trial_result(None, good, {METRIC: 80.0, BUDGET: 1}) == TrialScheduler.CONTINUE


def test_a_rung_that_is_reported_again_counts_once_for_the_median(tmp_path: Path) -> None:
    median: Any = scheduler(example_task(tmp_path, "tune.scheduler=median"), [])
    trial, other = tune_trial("t"), tune_trial("u")
    median.on_trial_add(None, trial)
    controller: Any = SimpleNamespace(get_live_trials=lambda: [other])
    for accuracy, budget in ((40.0, 1), (40.0, 1), (90.0, 3), (40.0, 1), (90.0, 3)):
        # Ray's own rule pauses a trial that it cannot compare yet.
        decision = median.on_trial_result(controller, trial, {METRIC: accuracy, BUDGET: budget})
        assert decision == TrialScheduler.CONTINUE
    assert sorted(result[METRIC] for result in median._results[trial]) == [40.0, 90.0]


def test_a_failed_trial_reports_an_accuracy_of_zero_after_its_rungs(tmp_path: Path) -> None:
    example, _ = example_search()
    task = example_task(tmp_path)
    made = [[(report[METRIC], report[BUDGET]) for report in reports(task, record)] for record in example.trials]
    assert made[0] == [(71.0, 1), (81.0, 3)]
    assert made[4] == [(96.0, 1)]
    assert made[5] == [(0.0, 1)]
    assert made[6] == [(61.0, 1), (0.0, 3)]
