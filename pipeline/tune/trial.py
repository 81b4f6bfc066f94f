"""One trial: some classes are condensed, and at every rung networks are trained on them and scored. No Ray here."""

import time
from collections.abc import Iterator, Mapping
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
from pipeline.tune.space import configured
from pipeline.tune.task import TrialTask
from pipeline.tune.trial_store import Rung, Trial, TrialFolder

SHARED_BYTES = 256 * 2**20
"""Of real images from which on a trial on a CPU reads them batch by batch instead of holding a copy."""


class TrialFailedError(Exception):
    """The values of a trial are of no use: a loss that is not finite, or too little memory. Another try gives the same."""


def run_trial(task: TrialTask, values: Mapping[str, Any], device: torch.device) -> Iterator[Rung]:
    """Runs a trial, or what is left of it.

    Yields:
        Its rungs, those first that were measured by an earlier call.

    Raises:
        TrialFailedError: now or by an earlier call; the record says why.
    """
    folder = task.folder(values)
    trial = folder.begin(values)
    yield from trial.rungs
    if trial.outcome == "failed":
        raise TrialFailedError(trial.why)
    if trial.outcome != "running":
        return  # finished or stopped
    torch.set_num_threads(task.threads)
    try:
        yield from _measured(task, _config(task, values), folder, trial, device)
    except (ArithmeticError, ValueError, MemoryError, RuntimeError) as error:
        why = _failure(error)
        if why is None:
            raise
        folder.settle("failed", why)
        raise TrialFailedError(why) from None
    finally:
        if device.type == "cuda":
            torch.cuda.empty_cache()  # the process takes other trials


def _config(task: TrialTask, values: Mapping[str, Any]) -> RunConfig:
    try:
        return configured(task.config, values)
    except UserError as error:  # two values that do not go together
        raise ConfigError(str(error)) from None


def _failure(error: Exception) -> str | None:
    """Why the values of a trial are to blame, or None where they are not."""
    if isinstance(error, CompilerError):
        return None  # of the machine
    if isinstance(error, NotFiniteError | ConfigError):
        return first_line(error)
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error):
        return f"out of memory: {first_line(error)}"
    return None


def _measured(
    task: TrialTask, config: RunConfig, folder: TrialFolder, trial: Trial, device: torch.device
) -> Iterator[Rung]:
    """The rungs that are missing; after the last one the record says that the trial is finished."""
    began = time.monotonic() - (trial.last.seconds if trial.last else 0.0)
    condenser = _condenser(task, config, device)
    state = _resumed(folder, condenser, trial, device)
    saved = time.monotonic()
    facts = {"device": short_device_name(device), "precision": condenser.execution.precision}
    for rung in task.rungs[len(trial.rungs) :]:
        for reached in _up_to(condenser, state, rung):
            state = reached
            if time.monotonic() - saved >= config.resources.checkpoint_every_s:
                folder.save(state)
                saved = time.monotonic()
        accuracies = score(task, config, condenser, state, device)
        measured = Rung(iteration=rung, accuracies=accuracies, seconds=time.monotonic() - began)
        folder.save(state)  # before the record: a rung that is told has a state to go on from
        done = rung == task.rungs[-1]
        trial = replace(trial, rungs=(*trial.rungs, measured), facts=facts, outcome="finished" if done else "running")
        folder.write(trial)
        yield measured


def _up_to(condenser: Condenser, state: CondenseState, iterations: int) -> Iterator[CondenseState]:
    """States until so many iterations are done, the last one finite."""
    if state.iteration < iterations:
        for step in iterate(condenser, state):
            state = step.state
            if state.iteration == iterations:
                break
            yield state
    if condenser.finished(state) is Outcome.NOT_FINITE:
        raise NotFiniteError(f"a loss was not finite within {iterations} iterations")
    yield state


def score_stored(
    task: TrialTask, values: Mapping[str, Any], folder: TrialFolder, device: torch.device
) -> tuple[float, ...]:
    """``score`` of a finished trial's stored state, on the split that the task's ``evaluate.on`` names."""
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
    """Accuracy in percent of fresh networks trained on the set as it stands: one per seed, the mean over architectures.

    They are scored on the split that ``config.evaluate.on`` names, of the trial's classes.
    """
    images, labels = condenser.result(state).views()
    labels = torch.searchsorted(torch.tensor(task.labels), labels)
    test, training = _test_set(task.cache, config.data, config.evaluate.on, task.labels), training_of(config.evaluate)
    channels, height, width = images.shape[1:]
    found = []
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
            made = train_and_score(recipe, images.to(device), labels.to(device), test, seeds=seeds)
            return [accuracy for _, accuracy in made]

        compile = config.evaluate.compile
        found.append(with_compiler(scored, compile, work, device, task.threads, key="evaluate.compile"))
    return tuple(sum(one) / len(one) for one in zip(*found, strict=True))


def _condenser(task: TrialTask, config: RunConfig, device: torch.device) -> Condenser:
    """The trial's classes move as in a run of all of them: the class count is the run's."""
    cache = PreparedDataset(task.cache, config.data)
    mean, std = cache.moments
    method = replace(config.method, condense=replace(config.condense, iterations=task.rungs[-1]))
    real = _real(task.cache, config.data, task.labels, config.seed, device)
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
            class_count=len(cache.classes),
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


def _resumed(folder: TrialFolder, condenser: Condenser, trial: Trial, device: torch.device) -> CondenseState:
    """The stored state where it fits the record, else the beginning: what was measured is not measured again."""
    saved, start = folder.load(), condenser.init()
    least = trial.last.iteration if trial.last else 0
    if saved is None or saved.pixels_KSCHW.shape != start.pixels_KSCHW.shape or saved.iteration < least:
        return start
    return placed(saved, device)


@lru_cache(maxsize=1)
def _real(cache: str, data: Data, labels: tuple[int, ...], seed: int, device: torch.device) -> RealImages:
    """The trial's real images, out of memory-mapped shards; a process keeps them for its next trial.

    On a CPU large data stays where it is mapped, which all trials of a node share.
    """
    held = PreparedDataset(cache, data)
    shared = device.type == "cpu" and held.train_bytes(labels) > SHARED_BYTES
    parts = [held.train_parts(label, must_map=shared) for label in labels]
    return (StreamedImages if shared else ClassImages)(parts, labels, seed=seed, device=device)


@lru_cache(maxsize=1)
def _test_set(cache: str, data: Data, on: Any, labels: tuple[int, ...]) -> TestSet:
    return PreparedDataset(cache, data).test_set(on, labels)
