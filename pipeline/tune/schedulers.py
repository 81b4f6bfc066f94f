"""Schedulers that stop trials early, and the reports of a trial that they and the searcher receive.

Ray Tune starts every call with an empty scheduler. The trials that ended in earlier calls are reported to it again, from
their records, so that a new trial is compared with all of them.
"""

from collections.abc import Iterable
from typing import Any

from ray.tune.experiment.trial import Trial as TuneTrial
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler
from typing_extensions import TypedDict

from pipeline.tune.task import TrialTask
from pipeline.tune.trial_store import Rung, TrialRecord

METRIC, BUDGET = "accuracy", "budget"
"""What is maximised, and the cost of a rung: powers of `reduction`, which are ASHA's own rungs."""


class Report(TypedDict):
    """What a trial reports to Ray Tune at a rung."""

    accuracy: float
    budget: int
    standard_error: float
    iterations: int


def rung_report(task: TrialTask, rung: Rung) -> Report:
    """Returns the report of a measured rung."""
    budget = task.config.tune.reduction ** task.rungs.index(rung.iteration)
    return Report(accuracy=rung.mean, budget=budget, standard_error=rung.error, iterations=rung.iteration)


def failure_report(task: TrialTask, rungs: int) -> Report:
    """Returns the report of a trial that failed because of its values after so many rungs.

    Its accuracy is 0, so that the searcher learns where not to look.
    """
    budget = task.config.tune.reduction ** min(rungs, len(task.rungs) - 1)
    return Report(accuracy=0.0, budget=budget, standard_error=0.0, iterations=0)


def reports(task: TrialTask, record: TrialRecord) -> list[Report]:
    """Returns all reports of a trial, as it made them while it ran."""
    measured = [rung_report(task, rung) for rung in record.rungs]
    return [*measured, failure_report(task, len(measured))] if record.outcome == "failed" else measured


def final_accuracy(task: TrialTask, record: TrialRecord) -> float | None:
    """Returns the accuracy of a trial's last report, or None if it made none."""
    made = reports(task, record)
    return made[-1]["accuracy"] if made else None


def scheduler(task: TrialTask, ended: Iterable[TrialRecord]) -> TrialScheduler:
    """Returns the scheduler that ``tune.scheduler`` names, which knows the trials that have ended."""
    if task.config.tune.scheduler == "asha":
        return _halving(task, ended)
    if task.config.tune.scheduler == "median":
        return _median(task, ended)
    return FIFOScheduler()


def _halving(task: TrialTask, ended: Iterable[TrialRecord]) -> AsyncHyperBandScheduler:
    """Asynchronous successive halving (Li et al., 2020)."""
    reduction = task.config.tune.reduction
    halving = AsyncHyperBandScheduler(
        time_attr=BUDGET,
        metric=METRIC,
        mode="max",
        grace_period=1,
        reduction_factor=reduction,
        max_t=reduction ** max(1, len(task.rungs) - 1),
    )
    for record in ended:
        trial = _ended_trial(record)
        halving.on_trial_add(_NO_CONTROLLER, trial)
        for report in reports(task, record):
            halving.on_trial_result(_NO_CONTROLLER, trial, dict(report))
    return halving


def _median(task: TrialTask, ended: Iterable[TrialRecord]) -> "Median":
    median = Median(time_attr=BUDGET, metric=METRIC, mode="max", grace_period=1, min_samples_required=3)
    for record in ended:
        median.add_ended(_ended_trial(record), reports(task, record))
    return median


class Median(MedianStoppingRule):
    """Stops what is below the median of the others' means at the same rung (Golovin et al., 2017)."""

    def add_ended(self, trial: TuneTrial, made: Iterable[Report]) -> None:
        """Counts the reports of a trial that ended in an earlier call."""
        for report in made:  # a trial without reports gets no entry: the rule reads the last report of every entry
            self._results[trial].append(dict(report))

    def on_trial_result(self, tune_controller: Any, trial: TuneTrial, result: Any) -> str:
        """Stops a trial or lets it continue. A rung that is reported again counts once, and nothing is paused."""
        results = self._results[trial]
        results[:] = [earlier for earlier in results if earlier[BUDGET] != result[BUDGET]]
        decision = super().on_trial_result(tune_controller, trial, result)
        # A paused trial would start again to be compared later, at the cost of its start.
        return TrialScheduler.CONTINUE if decision == TrialScheduler.PAUSE else decision


_NO_CONTROLLER: Any = None
"""In place of Tune's controller, which successive halving does not use."""


def _ended_trial(record: TrialRecord) -> TuneTrial:
    """A trial of Ray Tune that is never run. Its name is the key, which no running trial's is."""
    return TuneTrial("ended", trial_id=record.key, stub=True)
