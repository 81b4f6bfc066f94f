"""Schedulers that stop trials early, and that know the trials of before when a search goes on.

Ray 2.60 stores the searcher's state, but not the scheduler's: after ``Tuner.restore`` a trial would be compared
with nothing but those that come after. What finished before is therefore told to it again, from the records.
"""

from typing import Any

from ray.tune.experiment.trial import Trial as TuneTrial
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler

from pipeline.config.run_config import RunConfig
from pipeline.tune.task import TrialTask
from pipeline.tune.trial_store import Rung

METRIC, BUDGET = "accuracy", "budget"
"""What is maximised, and what a rung costs: reduction**0, reduction**1, ..., so that rungs meet those of ASHA exactly."""


def scheduler(config: RunConfig, task: TrialTask) -> TrialScheduler:
    """The scheduler that the settings name."""
    rungs, reduction = len(task.rungs), config.tune.reduction
    if config.tune.scheduler == "asha":
        halving = Halving(
            time_attr=BUDGET, grace_period=1, reduction_factor=reduction, max_t=reduction ** max(1, rungs - 1)
        )
        halving.task = task
        return halving
    if config.tune.scheduler == "median":
        median = Median(time_attr=BUDGET, grace_period=1, min_samples_required=3)
        median.task = task
        return median
    return FIFOScheduler()


def told(config: RunConfig, task: TrialTask, rung: Rung) -> dict[str, Any]:
    """What Tune is told of a rung."""
    budget = config.tune.reduction ** task.rungs.index(rung.iteration)
    return {METRIC: rung.mean, BUDGET: budget, "standard_error": rung.error, "iterations": rung.iteration}


class Halving(AsyncHyperBandScheduler):
    """Asynchronous successive halving (Li et al., 2020)."""

    task: TrialTask

    def on_trial_add(self, tune_controller: Any, trial: TuneTrial) -> None:
        """Takes a trial in; one that ended before counts at the rungs that it reached."""
        super().on_trial_add(tune_controller, trial)
        for result in _before(self.task, trial):
            super().on_trial_result(tune_controller, trial, result)


class Median(MedianStoppingRule):
    """Stops what is below the median of the others' means at the same rung (Golovin et al., 2017)."""

    task: TrialTask

    def on_trial_add(self, tune_controller: Any, trial: TuneTrial) -> None:
        """Takes a trial in; one that ended before counts at the rungs that it reached."""
        super().on_trial_add(tune_controller, trial)
        for result in _before(self.task, trial):
            self._results[trial].append(result)

    def on_trial_result(self, tune_controller: Any, trial: TuneTrial, result: dict[str, Any]) -> str:
        """Stops a trial or lets it go on. A rung that is told again counts once, and nothing is paused."""
        held = self._results[trial]
        held[:] = [one for one in held if one[BUDGET] != result[BUDGET]]
        decision = super().on_trial_result(tune_controller, trial, result)
        # A paused trial would begin anew to be compared later, at the cost of its start.
        return TrialScheduler.CONTINUE if decision == TrialScheduler.PAUSE else decision


def _before(task: TrialTask, trial: TuneTrial) -> list[dict[str, Any]]:
    if trial.status not in (TuneTrial.TERMINATED, TuneTrial.ERROR):
        return []  # one that is begun again tells its rungs itself
    held = task.folder(trial.config).read()
    return [told(task.config, task, rung) for rung in held.rungs] if held else []
