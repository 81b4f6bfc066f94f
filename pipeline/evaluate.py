"""The evaluate stage: fresh networks trained on the condensed set and on its baselines, as Ray tasks."""

import statistics
from dataclasses import dataclass
from functools import partial
from typing import Any

import ray
import torch

from m3d import train_and_score, training_of
from m3d.precision import resolve
from pipeline import ray_setup
from pipeline.class_cache import ClassCache
from pipeline.config import RunConfig
from pipeline.image_sets import training_set
from pipeline.progress import Display, console
from pipeline.results import set_names, table, write_rows
from pipeline.tasks import results
from pipeline.worker import device_of_actor


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One network: which set it is trained on, its architecture and its seed."""

    set: str
    architecture: str
    seed: int


def evaluate(config: RunConfig, out: str, cache_folder: str) -> list[dict[str, Any]]:
    """Trains and scores every set, architecture and seed, writes evaluation.json and prints the table.

    Args:
        config: of the run; ``evaluate`` says how.
        out: the run's folder with its condensed set.
        cache_folder: class shards.

    Returns:
        The rows that were measured.
    """
    ray_setup.start(config.resources)
    seeds = range(config.evaluate.seeds)
    trials = [
        Trial(set=s, architecture=a, seed=n)
        for a in config.evaluate.architectures
        for s in set_names(config)
        for n in seeds
    ]
    accuracies, precision = _run(trials, config, out, cache_folder)
    training = training_of(config.evaluate)
    rows = []
    for architecture in config.evaluate.architectures:
        for name in set_names(config):
            scores = [accuracies[Trial(set=name, architecture=architecture, seed=seed)] for seed in seeds]
            rows.append(
                {
                    "set": name,
                    "architecture": architecture,
                    "protocol": config.evaluate.protocol,
                    "mean": statistics.fmean(scores),
                    "std": statistics.stdev(scores) if len(scores) > 1 else 0.0,
                    "accuracies": scores,
                    "seeds": list(seeds),
                    "on": config.evaluate.on,
                    "epochs": training.epochs,
                    "epoch": "last",
                    "flip": config.evaluate.flip,
                    "images_per_class": config.condense.images_per_class,
                    "precision": precision,
                }
            )
    write_rows(out, rows)
    console().print(table(rows, config.evaluate.on))
    return rows


@ray.remote(max_retries=2)
def _score(trial: Trial, config: RunConfig, out: str, cache_folder: str, threads: int) -> tuple[float, str]:
    torch.set_num_threads(threads)
    device = device_of_actor()
    precision = resolve(config.condense.precision, device)
    cache = ClassCache(cache_folder, config.data)
    test = cache.test_set(config.evaluate.on)
    images, labels = training_set(trial.set, config, out, cache, trial.seed)
    ((_, accuracy),) = train_and_score(
        trial.architecture,
        images.to(device),
        labels.to(device),
        test,
        config=training_of(config.evaluate),
        seeds=range(trial.seed, trial.seed + 1),
        precision=precision,
    )
    return accuracy, precision


def _run(trials: list[Trial], config: RunConfig, out: str, cache_folder: str) -> tuple[dict[Trial, float], str]:
    threads, gpus, slots = _share(len(trials), config)
    task = _score.options(num_cpus=threads, num_gpus=gpus)
    scores: dict[Trial, float] = {}
    precision = ""
    with Display("evaluate", len(trials)) as display:
        display.update(0, f"0/{len(trials)} networks")
        calls = [partial(task.remote, trial, config, out, cache_folder, threads) for trial in trials]
        for index, scored in results(calls, slots, "evaluate"):
            if index >= 0:
                scores[trials[index]], precision = scored
            display.update(len(scores), f"{len(scores)}/{len(trials)} networks")
    return scores, precision


def _share(trials: int, config: RunConfig) -> tuple[int, float, int]:
    """CPUs (and threads) and GPUs of one network, and how many networks the cluster holds at a time."""
    nodes = ray_setup.nodes()
    gpus = config.resources.gpus_per_actor
    gpus = float(any(node.gpus >= 1 for node in nodes)) if gpus is None else gpus
    cpus = sum(node.cpus for node in nodes)
    threads = max(1, min(int(cpus / trials), int(max(node.cpus for node in nodes))))
    slots = sum(node.gpus for node in nodes) / gpus if gpus else cpus / threads
    return threads, gpus, max(1, int(slots))
