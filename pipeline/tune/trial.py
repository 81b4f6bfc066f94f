"""One trial: some classes are condensed, and at every rung networks are trained on them and scored. No Ray here."""

import time
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch

from m3d import (
    ClassImages,
    Condenser,
    CondenseState,
    NotFiniteError,
    RealImages,
    Recipe,
    StreamedImages,
    TestSet,
    iterate,
    train_and_score,
)
from m3d.backend import compiler
from m3d.backend.device_names import short_device_name
from m3d.backend.execution import choose, training_flops, with_compiler
from m3d.config import CompilerError, ConfigError
from m3d.state import Outcome
from m3d.training.protocols import training_of
from pipeline.config.run_config import Data, RunConfig
from pipeline.data.prepared_dataset import PreparedDataset
from pipeline.errors import UserError, first_line
from pipeline.formats.condense_checkpoint import placed
from pipeline.tune.space import Values, configured
from pipeline.tune.task import TrialTask
from pipeline.tune.trial_store import Rung, TrialFacts, TrialFolder, TrialRecord

SHARED_BYTES = 256 * 2**20
"""Size of the real images above which a trial on a CPU reads them batch by batch instead of keeping a copy."""


class TrialFailedError(Exception):
    """The values of a trial do not work: a loss is not finite, or memory runs out. Another attempt would fail in the same way."""


def run_trial(task: TrialTask, values: Values, device: torch.device) -> Iterator[Rung]:
    """Runs a trial, or the part of it that is missing.

    Yields:
        Its rungs, first those that an earlier call measured.

    Raises:
        TrialFailedError: the trial failed, now or in an earlier call; the record says why.
    """
    folder = task.folder(values)
    record = folder.begin(values)
    yield from record.rungs
    if record.outcome == "failed":
        raise TrialFailedError(record.why)
    if record.outcome != "running":
        return  # finished or stopped
    torch.set_num_threads(task.threads)
    try:
        yield from _measured(task, _config(task, values), folder, record, device)
    except (ArithmeticError, ValueError, MemoryError, RuntimeError) as error:
        why = _failure(error)
        if why is None:
            raise
        folder.settle("failed", why)
        raise TrialFailedError(why) from None
    finally:
        if device.type == "cuda":
            torch.cuda.empty_cache()  # the process runs other trials


def _config(task: TrialTask, values: Values) -> RunConfig:
    try:
        return configured(task.config, values)
    except UserError as error:  # two values that do not go together
        raise ConfigError(str(error)) from None


def _failure(error: Exception) -> str | None:
    """Returns why the values of a trial made it fail, or None if something else did."""
    if isinstance(error, CompilerError):
        return None  # the machine did
    if isinstance(error, NotFiniteError | ConfigError):
        return first_line(error)
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error):
        return f"out of memory: {first_line(error)}"
    return None


def _measured(
    task: TrialTask, config: RunConfig, folder: TrialFolder, record: TrialRecord, device: torch.device
) -> Iterator[Rung]:
    """Yields the rungs that are missing; the last one sets the outcome to ``finished``."""
    began = time.monotonic() - (record.last.seconds if record.last else 0.0)
    condenser = _condenser(task, config, device)
    state = _resumed(folder, condenser, record, device)
    saved = time.monotonic()
    facts = TrialFacts(device=short_device_name(device), precision=condenser.execution.precision)
    for rung in task.rungs[len(record.rungs) :]:
        for reached in _up_to(condenser, state, rung):
            state = reached
            if time.monotonic() - saved >= config.resources.checkpoint_every_s:
                folder.save(state)
                saved = time.monotonic()
        accuracies = score(task, config, condenser, state, device)
        measured = Rung(iteration=rung, accuracies=accuracies, seconds=time.monotonic() - began)
        folder.save(state)  # before the record: a rung that is recorded has a checkpoint to resume from
        done = rung == task.rungs[-1]
        record = replace(
            record, rungs=(*record.rungs, measured), facts=facts, outcome="finished" if done else "running"
        )
        folder.write(record)
        yield measured


def _up_to(condenser: Condenser, state: CondenseState, iterations: int) -> Iterator[CondenseState]:
    """Yields states until so many iterations are done. Raises NotFiniteError if a loss was not finite on the way."""
    if state.iteration < iterations:
        for step in iterate(condenser, state):
            state = step.state
            if state.iteration == iterations:
                break
            yield state
    if condenser.finished(state) is Outcome.NOT_FINITE:
        raise NotFiniteError(f"a loss was not finite within {iterations} iterations")
    yield state


def score_stored(task: TrialTask, values: Values, folder: TrialFolder, device: torch.device) -> tuple[float, ...]:
    """Scores a finished trial's checkpoint on the split that the task's ``evaluate.on`` names, see ``score``."""
    torch.set_num_threads(task.threads)
    config = _config(task, values)
    condenser, saved = _condenser(task, config, device), folder.load()
    if saved is None or saved.iteration != task.rungs[-1]:
        raise UserError(
            f"{folder.path}: its condensed set is gone; delete the folder and run the same command with --resume"
        )
    return score(task, config, condenser, placed(saved, device), device)


def score(
    task: TrialTask, config: RunConfig, condenser: Condenser, state: CondenseState, device: torch.device
) -> tuple[float, ...]:
    """Trains fresh networks on the condensed images and scores them.

    Networks are scored on the trial's classes, on the split that ``config.evaluate.on`` names.

    Returns:
        Accuracies in percent, one per seed, each the mean over the architectures.
    """
    images, labels = condenser.result(state).views()
    labels = torch.searchsorted(torch.tensor(task.labels), labels)
    test = _test_set(task.class_shards, config.data, config.evaluate.on, task.labels)
    training = training_of(config.evaluate)
    channels, height, width = images.shape[1:]
    by_architecture = []
    for architecture in config.evaluate.architectures:
        networks = config.evaluate.seeds * len(task.rungs)
        work = networks * training_flops(training.epochs, architecture, len(images), (channels, height, width))

        def scored(compiled: bool, architecture: str = architecture) -> list[float]:
            recipe = Recipe(
                architecture=architecture,
                training=training,
                precision=condenser.execution.precision,
                compiled=compiled,
            )
            seeds = range(config.evaluate.seeds)
            scores = train_and_score(recipe, images.to(device), labels.to(device), test, seeds=seeds)
            return [accuracy for _, accuracy in scores]

        compile = config.evaluate.compile
        by_architecture.append(with_compiler(scored, compile, work, device, task.threads, key="evaluate.compile"))
    return tuple(sum(accuracies) / len(accuracies) for accuracies in zip(*by_architecture, strict=True))


def _condenser(task: TrialTask, config: RunConfig, device: torch.device) -> Condenser:
    """The trial's classes move as in a run of all of them: the class count is the run's."""
    dataset = PreparedDataset(task.class_shards, config.data)
    mean, std = dataset.moments
    method = replace(config.method, condense=replace(config.condense, iterations=task.rungs[-1]))
    real = _real(task.class_shards, config.data, task.labels, config.seed, device)
    memory = torch.cuda.get_device_properties(device).total_memory * task.gpu_share if device.type == "cuda" else None
    execution = choose(
        method,
        shape=real.shape,
        classes=len(task.labels),
        device=device,
        threads=task.threads,
        memory=memory,
    )

    def made(compiled: bool) -> Condenser:
        return Condenser(
            real,
            method,
            mean=mean,
            std=std,
            class_count=len(dataset.classes),
            execution=replace(execution, compiled=compiled),
        )

    condenser = made(execution.compiled)
    if execution.compiled:
        try:
            with compiler.alone():
                condenser.warm_up(condenser.init())
        except Exception as error:
            if method.condense.compile == "on" or not compiler.failed(error):
                raise
            condenser = made(False)
    return condenser


def _resumed(folder: TrialFolder, condenser: Condenser, record: TrialRecord, device: torch.device) -> CondenseState:
    """Returns the checkpoint if it is at least as far as the record, else the initial state: no rung is measured twice."""
    saved, start = folder.load(), condenser.init()
    least = record.last.iteration if record.last else 0
    if saved is None or saved.pixels_KSCHW.shape != start.pixels_KSCHW.shape or saved.iteration < least:
        return start
    return placed(saved, device)


@lru_cache(maxsize=1)
def _real(class_shards: str, data: Data, labels: tuple[int, ...], seed: int, device: torch.device) -> RealImages:
    """Returns the trial's real images from memory-mapped shards; a process keeps them for its next trial.

    On a CPU large data stays in the memory map, which all trials of a node share.
    """
    dataset = PreparedDataset(class_shards, data)
    shared = device.type == "cpu" and dataset.train_bytes(labels) > SHARED_BYTES
    parts = [dataset.train_parts(label, must_map=shared) for label in labels]
    return (StreamedImages if shared else ClassImages)(parts, labels, seed=seed, device=device)


@lru_cache(maxsize=1)
def _test_set(class_shards: str, data: Data, on: Any, labels: tuple[int, ...]) -> TestSet:
    return PreparedDataset(class_shards, data).test_set(on, labels)
