"""The search itself: Ray Tune runs a trial for each proposal in a process of its own, and stops the poor ones."""

import contextlib
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ray import tune
from ray.tune import Callback

from pipeline.config.run_config import RunConfig
from pipeline.observability.progress import say
from pipeline.runtime import nodes, task_processes
from pipeline.runtime.devices import assigned_device
from pipeline.runtime.heartbeat import Heartbeat
from pipeline.runtime.placement import Placement, capacity
from pipeline.runtime.watch import Watch
from pipeline.storage import arrow_files
from pipeline.tune.monitor import TuneMonitor
from pipeline.tune.proposals import proposals
from pipeline.tune.results import SearchResult, read_result
from pipeline.tune.schedulers import failure_report, rung_report, scheduler
from pipeline.tune.search_folder import SearchFolder
from pipeline.tune.space import Space, Values
from pipeline.tune.task import TrialTask
from pipeline.tune.trial import TrialFailedError, run_trial

NAME = "search"
"""Folder of Ray Tune's own files below the search's folder, TensorBoard's among them."""


@dataclass(frozen=True, kw_only=True)
class Search:
    """A search: what it varies, what it may cost, and where it is stored."""

    config: RunConfig
    """Given configuration; its section ``tune`` says how to search."""
    task: TrialTask
    space: Space
    folder: SearchFolder
    placement: Placement
    """Resources of a trial."""
    trials: int
    """Largest number of trials, those of earlier calls included."""
    time_budget_s: float | None = None
    """Time of all calls together. Defaults to no bound."""

    def result(self) -> SearchResult:
        """Reads what the trials have recorded so far."""
        return read_result(self.task, self.space)


def run_trials(search: Search) -> None:
    """Runs the trials that are missing or were interrupted. Their results are in their records."""
    earlier = search.result()
    ended = [record for record in earlier.trials if record.has_ended]
    interrupted = len(earlier.trials) - len(ended)
    made = search.folder.proposals(len(earlier.trials))
    missing = max(search.trials - made, 0) + interrupted
    if earlier.trials:
        say(
            f"tune: resumes the search in {search.folder}: {len(ended)} of {search.trials} trials have ended, "
            f"{interrupted} were interrupted"
        )
    if missing == 0:
        return
    task_processes.end_idle()
    with Watch(search.config.resources.stall_s) as watch:
        monitor = TuneMonitor(search.task, search.folder, search.trials, earlier, watch)
        with contextlib.closing(monitor):
            tuner = _tuner(search, earlier, missing, [monitor, *_loggers(search)], watch.heartbeat)
            ran = _fit(tuner)
    search.folder.write_proposals(made + max(0, ran - interrupted), len(search.result().trials))


def _tuner(
    search: Search, earlier: SearchResult, trials: int, callbacks: Sequence[Callback], heartbeat: Heartbeat
) -> tune.Tuner:
    """Returns what runs so many trials after those that ended earlier."""
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"  # an interrupt ends the command; the records are complete
    # Ray Tune logs the traceback of every lost process. The monitor and the records say what was lost.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"  # the new output prints a banner at any verbosity
    config, task = search.config, search.task
    concurrent = config.tune.concurrent or _slots(search.placement)
    if concurrent:
        # By default Ray starts one process after another.
        os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(concurrent)
    filesystem, root = arrow_files.file_system(search.folder.file(NAME))
    ended = [record for record in earlier.trials if record.has_ended]
    return tune.Tuner(
        _objective(task, search.placement, heartbeat),
        tune_config=tune.TuneConfig(
            num_samples=trials,
            search_alg=proposals(task, search.space, search.trials, earlier.trials),
            scheduler=scheduler(task, ended),
            max_concurrent_trials=concurrent,
            time_budget_s=_time_left(search),
            reuse_actors=True,
            trial_dirname_creator=TrialNames(task),
        ),
        run_config=tune.RunConfig(
            name=NAME,
            storage_path=root.rsplit("/", 1)[0],
            storage_filesystem=filesystem,
            failure_config=tune.FailureConfig(max_failures=config.resources.attempts - 1),
            callbacks=list(callbacks),
            verbose=0,
        ),
    )


def _fit(tuner: tune.Tuner) -> int:
    """Runs the trials, and returns how many there were."""
    return len(tuner.fit())


def _time_left(search: Search) -> float | None:
    """Returns the part of the time budget that earlier calls left, at least a second, or None without a budget."""
    spent = search.folder.seconds()
    if search.time_budget_s is None or not spent:
        return search.time_budget_s
    return max(1.0, search.time_budget_s - spent)


def _slots(placement: Placement) -> int | None:
    """Returns how many trials fit the cluster at a time, or None if it may grow."""
    if nodes.autoscales():
        return None
    return max(1, capacity(placement.cpus_per_actor, placement.gpus_per_actor, nodes.nodes()))


class TrialNames:
    """Names a trial's folder among Ray Tune's own files after its folder below OUT/trials."""

    def __init__(self, task: TrialTask) -> None:
        self.task = task

    def __call__(self, trial: Any) -> str:
        return f"{self.task.key(trial.config)}-{trial.trial_id}"


def _objective(task: TrialTask, placement: Placement, heartbeat: Heartbeat) -> Callable[[Values], None]:
    """Returns the function that Ray Tune calls with the values of a trial, with its resources."""

    def objective(values: Values) -> None:
        measured = 0
        with heartbeat.beating():
            try:
                for rung in run_trial(task, values, assigned_device()):
                    measured += 1
                    tune.report(dict(rung_report(task, rung)))
            except TrialFailedError:
                tune.report(dict(failure_report(task, measured)))  # the record has the reason

    needed = {"cpu": placement.cpus_per_actor, "gpu": placement.gpus_per_actor}
    return tune.with_resources(objective, {name: share for name, share in needed.items() if share})


def _loggers(search: Search) -> list[Callback]:
    loggers: list[Callback] = []
    if "mlflow" in search.config.tune.loggers:
        from ray.air.integrations.mlflow import MLflowLoggerCallback

        loggers.append(MLflowLoggerCallback(experiment_name=search.folder.name))
    if "wandb" in search.config.tune.loggers:
        from ray.air.integrations.wandb import WandbLoggerCallback

        loggers.append(WandbLoggerCallback(project="m3d-condense", group=search.folder.name))
    return loggers
