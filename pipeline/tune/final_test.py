"""The end of a search: the given configuration is brought to the last rung, then it and the winner meet the test set."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import ray
import torch

from pipeline import storage
from pipeline.config.run_config import RunConfig
from pipeline.data.prepared_dataset import PreparedDataset
from pipeline.observability.progress import Display
from pipeline.runtime import nodes, session
from pipeline.runtime.placement import Placement, capacity
from pipeline.runtime.tasks import results
from pipeline.tune.space import Values
from pipeline.tune.task import TrialTask
from pipeline.tune.trial import TrialFailedError, run_trial, score_stored
from pipeline.tune.trial_store import Trial


def complete(task: TrialTask, values: Values, placement: Placement) -> None:
    """Runs a trial to its end where its scheduler had stopped it: what the winner is compared with."""
    folder = task.folder(values)
    held = folder.read()
    if held is not None and held.outcome in ("finished", "failed"):
        return
    if held is not None:
        folder.write(replace(held, outcome="running"))
    _run([partial(_complete.options(**_share(placement)).remote, task, values)], placement, "given configuration")


def tested(
    config: RunConfig, task: TrialTask, named: Sequence[tuple[str, Trial]], out: str, placement: Placement
) -> list[dict[str, Any]]:
    """Scores trials on the test set, once each, with the same seeds.

    Args:
        config: as given; ``tune.final`` says whether they are condensed like a trial or as a whole run.
        task: of the search.
        named: what each is called, and the trial.
        out: the search's folder.
        placement: what a trial takes.

    Returns:
        Plain rows: configuration, validation and test accuracies per seed, classes, iterations.
    """
    if config.tune.final == "whole":
        cache = PreparedDataset(task.cache, config.data)
        whole = replace(
            task,
            config=replace(config, evaluate=replace(config.evaluate, on="test")),
            out=storage.join(out, "whole"),
            labels=tuple(range(len(cache.classes))),
            rungs=(config.condense.iterations,),
        )
        calls = [(_whole, whole, trial) for _, trial in named]
    else:
        whole = task
        calls = [(_score, task, trial) for _, trial in named]
    submit = [partial(call.options(**_share(placement)).remote, given, trial.values) for call, given, trial in calls]
    scores = _run(submit, placement, "test set")
    return [
        {
            "configuration": name,
            "key": trial.key,
            "values": trial.values,
            "validation": list(trial.last.accuracies) if trial.last else [],
            "test": list(scores[index]),
            "classes": len(whole.labels),
            "iterations": whole.rungs[-1],
        }
        for index, (name, trial) in enumerate(named)
    ]


def _share(placement: Placement) -> dict[str, Any]:
    return {
        "num_cpus": placement.cpus_per_actor,
        "num_gpus": placement.gpus_per_actor,
        "runtime_env": session.worker_environment(),
    }


def _run(calls: Sequence[Any], placement: Placement, title: str) -> dict[int, Any]:
    at_once = max(1, capacity(placement.cpus_per_actor, placement.gpus_per_actor, nodes.nodes()))
    found: dict[int, Any] = {}
    with Display(title, len(calls)) as display:

        def show() -> None:
            display.update(len(found), f"{len(found)}/{len(calls)} condensed sets")

        for index, value in results(calls, at_once, "tune", on_tick=show):
            found[index] = value
            show()
    return found


@ray.remote(max_retries=2)
def _complete(task: TrialTask, values: Values) -> None:
    try:
        for _ in run_trial(task, values, _device()):
            pass
    except TrialFailedError:
        return  # its record says so


@ray.remote(max_retries=2)
def _score(task: TrialTask, values: Values) -> tuple[float, ...]:
    test = replace(task, config=replace(task.config, evaluate=replace(task.config.evaluate, on="test")))
    return score_stored(test, values, task.folder(values), _device())


@ray.remote(max_retries=2)
def _whole(task: TrialTask, values: Values) -> tuple[float, ...]:
    try:
        rungs = list(run_trial(task, values, _device()))
    except TrialFailedError:
        return ()
    return rungs[-1].accuracies


def _device() -> torch.device:
    from pipeline.runtime.devices import device_of_actor

    return device_of_actor()
