"""The end of a search: the given configuration runs to its last rung; then it and the winner are scored on the test set."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from pipeline.data.prepared_dataset import PreparedDataset
from pipeline.observability.progress import Display
from pipeline.runtime import nodes
from pipeline.runtime.devices import assigned_device
from pipeline.runtime.placement import capacity
from pipeline.runtime.task_pool import Call, Slots, results
from pipeline.tune.search import Search
from pipeline.tune.search_folder import FinalRow
from pipeline.tune.space import Values
from pipeline.tune.task import TrialTask
from pipeline.tune.trial import TrialFailedError, run_trial, score_stored
from pipeline.tune.trial_store import TrialRecord

Accuracies = tuple[float, ...]


def complete_start(search: Search) -> None:
    """Runs the trial of the given configuration to its last rung if its scheduler stopped it."""
    task, start = search.task, search.space.start
    folder = task.folder(start)
    record = folder.read()
    if record is not None and record.outcome in ("finished", "failed"):
        return
    if record is not None:
        folder.write(replace(record, outcome="running"))
    _run([partial(_complete, task, start)], search, "given configuration")


def final_rows(search: Search, named: Sequence[tuple[str, TrialRecord]]) -> list[FinalRow]:
    """Scores trials on the test set, once each, with the same seeds.

    Args:
        search: the search; ``tune.final`` says whether trials are scored as they are or condensed again in full.
        named: trials, each with its name.

    Returns:
        A row for each trial.
    """
    is_full = search.config.tune.final == "whole"
    task = _full_task(search) if is_full else search.task
    score = _full if is_full else _score
    scores = _run([partial(score, task, trial.values) for _, trial in named], search, "test set")
    return [
        FinalRow(
            configuration=name,
            key=trial.key,
            values=trial.values,
            validation=list(trial.last.accuracies) if trial.last else [],
            test=list(scores[index]),
            classes=len(task.labels),
            iterations=task.rungs[-1],
        )
        for index, (name, trial) in enumerate(named)
    ]


def _full_task(search: Search) -> TrialTask:
    """Returns the task with all classes and the full schedule, scored on the test set."""
    config = search.config
    dataset = PreparedDataset(search.task.class_shards, config.data)
    return replace(
        search.task,
        config=replace(config, evaluate=replace(config.evaluate, on="test")),
        out=search.folder.full_runs,
        labels=tuple(range(len(dataset.classes))),
        rungs=(config.condense.iterations,),
    )


def _run(calls: Sequence[Call], search: Search, title: str) -> dict[int, Any]:
    """Makes calls with the resources of a trial, as many at a time as fit the cluster; returns their values by index."""
    cpus, gpus = search.placement.cpus_per_actor, search.placement.gpus_per_actor
    slots = Slots(count=max(1, capacity(cpus, gpus, nodes.nodes())), cpus=cpus, gpus=gpus)
    values: dict[int, Any] = {}
    with Display(title, len(calls)) as display:

        def show() -> None:
            display.update(len(values), f"{len(values)}/{len(calls)} condensed sets")

        for index, value in results("tune", calls, slots, search.config.resources, on_tick=show, note=display.note):
            values[index] = value
            show()
    return values


def _complete(task: TrialTask, values: Values) -> None:
    try:
        for _ in run_trial(task, values, assigned_device()):
            pass
    except TrialFailedError:
        return  # the record has the reason


def _score(task: TrialTask, values: Values) -> Accuracies:
    test = replace(task, config=replace(task.config, evaluate=replace(task.config.evaluate, on="test")))
    return score_stored(test, values, task.folder(values), assigned_device())


def _full(task: TrialTask, values: Values) -> Accuracies:
    try:
        rungs = list(run_trial(task, values, assigned_device()))
    except TrialFailedError:
        return ()
    return rungs[-1].accuracies
