"""The evaluate stage: fresh networks trained on the condensed set and on its baselines, as Ray tasks."""

import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import ray
import torch

from m3d import compiler, train_and_score, training_of
from m3d.config import ConfigError
from m3d.execution import compiles, training_flops
from m3d.precision import resolve
from pipeline import ray_setup, storage
from pipeline.class_cache import ClassCache
from pipeline.config import RunConfig
from pipeline.documents import SEAL
from pipeline.errors import UserError, first_line
from pipeline.image_sets import training_set
from pipeline.plan import capacity, does_not_fit
from pipeline.progress import Display, console, say
from pipeline.results import held_row, set_names, table, write_rows
from pipeline.shard_reader import read_manifest
from pipeline.tasks import results
from pipeline.worker import device_of_actor


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One network: which set it is trained on, its architecture and its seed."""

    set: str
    architecture: str
    seed: int


@dataclass(frozen=True, kw_only=True)
class Scored:
    """What became of a trial."""

    accuracy: float
    """In percent."""
    precision: str
    compiled: bool


def evaluate(config: RunConfig, out: str, cache_folder: str) -> list[dict[str, Any]]:
    """Trains and scores every set, architecture and seed that is missing in evaluation.json, and prints the table.

    A row is written as soon as its last seed is scored, so an interrupted call loses the rows under way only.

    Args:
        config: of the run; ``evaluate`` says how.
        out: the run's folder with its condensed set.
        cache_folder: class shards.

    Returns:
        The rows that the configuration asks for.
    """
    ray_setup.start(config.resources)
    seal = read_manifest(storage.join(out, "condensed"))[SEAL]
    wanted = [(name, architecture) for architecture in config.evaluate.architectures for name in set_names(config)]
    held = {pair: row for pair in wanted if (row := held_row(config, out, *pair, seal)) is not None}
    if held:
        say(f"evaluate: {len(held)} of {len(wanted)} rows are held from before")
    trials = [
        Trial(set=s, architecture=a, seed=n)
        for s, a in wanted
        if (s, a) not in held
        for n in range(config.evaluate.seeds)
    ]
    scores: dict[tuple[str, str], dict[int, Scored]] = {}
    with Display("evaluate", len(trials)) as display:
        for trial, scored in _scored(trials, config, out, cache_folder, display):
            pair = (trial.set, trial.architecture)
            scores.setdefault(pair, {})[trial.seed] = scored
            if len(scores[pair]) == config.evaluate.seeds:  # a row is kept as soon as it is whole
                held[pair] = _row(config, *pair, scores[pair], seal)
                write_rows(out, [held[pair]])
    rows = [held[pair] for pair in wanted]
    write_rows(out, rows)  # in the order asked for
    console().print(table(rows, config.evaluate.on))
    return rows


def _row(config: RunConfig, name: str, architecture: str, scored: dict[int, Scored], seal: str) -> dict[str, Any]:
    seeds = sorted(scored)
    accuracies = [scored[seed].accuracy for seed in seeds]
    return {
        "set": name,
        "architecture": architecture,
        "protocol": config.evaluate.protocol,
        "mean": statistics.fmean(accuracies),
        "std": statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0,
        "accuracies": accuracies,
        "seeds": seeds,
        "on": config.evaluate.on,
        "epochs": training_of(config.evaluate).epochs,
        "epoch": "last",
        "flip": config.evaluate.flip,
        "images_per_class": config.condense.images_per_class,
        "precision": ", ".join(sorted({one.precision for one in scored.values()})),
        "compiled": all(one.compiled for one in scored.values()),
        "condensed_set": seal,
    }


@ray.remote(max_retries=2)
def _score(trial: Trial, config: RunConfig, out: str, cache_folder: str, threads: int, networks: int) -> Scored:
    torch.set_num_threads(threads)
    device = device_of_actor()
    precision = resolve(config.condense.precision, device)
    cache = ClassCache(cache_folder, config.data)
    test = cache.test_set(config.evaluate.on)
    images, labels = training_set(trial.set, config, out, cache, trial.seed)
    training = training_of(config.evaluate)
    channels, height, width = images.shape[1:]
    work = networks * training_flops(training, trial.architecture, len(images), (channels, height, width))
    try:
        compiled, _ = compiles(config.evaluate.compile, work, device, threads, key="evaluate.compile")
    except ConfigError as error:
        raise UserError(str(error)) from None

    def scored(compiled: bool) -> Scored:
        ((_, accuracy),) = train_and_score(
            trial.architecture,
            images.to(device),
            labels.to(device),
            test,
            config=training,
            seeds=range(trial.seed, trial.seed + 1),
            precision=precision,
            compiled=compiled,
        )
        return Scored(accuracy=accuracy, precision=precision, compiled=compiled)

    # Ray gives a process one network after another, and what was compiled for the first serves the others.
    try:
        return scored(compiled)
    except Exception as error:
        if not compiled or not compiler.failed(error):
            raise
        if config.evaluate.compile == "on":
            raise UserError(f"the compiler failed ({first_line(error)}); use evaluate.compile=off") from None
        return scored(False)


def _scored(
    trials: list[Trial], config: RunConfig, out: str, cache_folder: str, display: Display
) -> Iterator[tuple[Trial, Scored]]:
    if not trials:
        return
    whole = len(config.evaluate.architectures) * len(set_names(config)) * config.evaluate.seeds
    # Of the whole evaluation, so that one which goes on chooses as the first call did.
    threads, gpus, slots = share(whole, config)
    networks = -(-whole // slots)
    task = _score.options(num_cpus=threads, num_gpus=gpus)
    calls = [partial(task.remote, trial, config, out, cache_folder, threads, networks) for trial in trials]
    done = 0
    display.update(0, f"0/{len(trials)} networks")
    for index, scored in results(calls, slots, "evaluate"):
        if index >= 0:
            done += 1
            yield trials[index], scored
        display.update(done, f"{done}/{len(trials)} networks")


def share(trials: int, config: RunConfig) -> tuple[int, float, int]:
    """CPUs (and threads) and GPUs of one network, and how many networks the cluster holds at a time.

    Raises:
        UserError: no node can hold one.
    """
    nodes = ray_setup.nodes()
    gpus = config.resources.gpus_per_actor
    gpus = float(any(node.gpus >= 1 for node in nodes)) if gpus is None else gpus
    able = [node for node in nodes if capacity(1, gpus, [node])]
    if not able:
        raise does_not_fit(1, gpus, nodes)
    if gpus:
        threads = max(1, min(int(node.cpus * gpus / node.gpus) for node in able))
    else:
        threads = max(1, min(int(sum(node.cpus for node in able) / trials), int(max(node.cpus for node in able))))
    return threads, gpus, max(1, capacity(threads, gpus, able))
