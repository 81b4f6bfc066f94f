"""The row of the whole set in evaluation.json: the accuracy of the networks that ``pretrain`` trained."""

import statistics
from functools import partial
from typing import Any

import ray
import torch

from m3d import accuracy
from m3d.backend.precision import resolve
from pipeline.config.parsing import to_dict
from pipeline.config.run_config import RunConfig
from pipeline.data.prepared_dataset import PreparedDataset
from pipeline.evaluate.results import read_rows, write_rows
from pipeline.formats.provenance import commit, joined
from pipeline.formats.run_folder import RunFolder
from pipeline.observability.progress import Display
from pipeline.pretrain.reader import ExpertsManifest, seal_of, trained_network
from pipeline.pretrain.scaling import Shares, training_images
from pipeline.pretrain.store import RULE
from pipeline.runtime.tasks import results

SET, SCHEDULE = "whole", "pretrain"
"""How the rows in evaluation.json are named."""


def whole_set_row(
    config: RunConfig, out: str, cache: PreparedDataset, manifest: ExpertsManifest, shares: Shares
) -> dict[str, Any]:
    """The row of the whole set: the stored one if it is of these very networks, otherwise they are scored and it is written."""
    return held(config, out, manifest) or scored(config, out, cache, manifest, shares)


@ray.remote(max_retries=2)
def _score(
    out: str, manifest: ExpertsManifest, seed: int, config: RunConfig, cache_folder: str, threads: int, precision: str
) -> float:
    torch.set_num_threads(threads)
    device = torch.device("cuda") if ray.get_gpu_ids() and torch.cuda.is_available() else torch.device("cpu")
    test = PreparedDataset(cache_folder, config.data).test_set(config.evaluate.on)
    return accuracy(
        trained_network(RunFolder(out), manifest, seed).to(device), test, precision=resolve(precision, device)
    )


def scored(
    config: RunConfig, out: str, cache: PreparedDataset, manifest: ExpertsManifest, shares: Shares
) -> dict[str, Any]:
    """Scores the last network of every trajectory asked for, a task each, and writes their row."""
    records = {record["seed"]: record for record in manifest["trajectories"]}
    seeds = range(config.pretrain.trajectories)
    task = _score.options(num_cpus=shares.cpus, num_gpus=shares.gpus)
    calls = [
        partial(task.remote, out, manifest, seed, config, cache.folder, shares.threads, records[seed]["precision"])
        for seed in seeds
    ]
    scores: dict[int, float] = {}
    with Display("score", len(calls)) as display:
        for seed, score in results(calls, shares.workers, "pretrain"):
            if seed >= 0:
                scores[seed] = score
            display.update(len(scores), f"{len(scores)}/{len(calls)} networks")
    accuracies = [scores[seed] for seed in seeds]
    row = {
        "set": SET,
        "architecture": config.pretrain.architecture,
        "protocol": SCHEDULE,
        "schedule": SCHEDULE,
        "knobs": {key: to_dict(config)["pretrain"][key] for key in RULE if key != "architecture"},
        "mean": statistics.fmean(accuracies),
        "std": statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0,
        "accuracies": accuracies,
        "seeds": list(seeds),
        "on": config.evaluate.on,
        "epochs": config.pretrain.epochs,
        "epoch": "last",
        "flip": "flip" in config.pretrain.training.augment.operations,
        "images_per_class": None,
        "images": training_images(cache),
        "precision": ", ".join(sorted({records[seed]["precision"] for seed in seeds})),
        "compiled": all(records[seed]["compiled"] for seed in seeds),
        "experts": seal_of(manifest),
        "commit": joined(manifest.get("commit"), commit()),
    }
    write_rows(out, [row])
    return row


def held(config: RunConfig, out: str, manifest: ExpertsManifest) -> dict[str, Any] | None:
    """The row that answers for these very networks, for those of the trajectories asked for at least, or None."""
    asked = {
        "set": SET,
        "architecture": config.pretrain.architecture,
        "schedule": SCHEDULE,
        "on": config.evaluate.on,
        "experts": seal_of(manifest),
    }
    seeds = set(range(config.pretrain.trajectories))
    rows = [row for row in read_rows(out) if all(row.get(key) == value for key, value in asked.items())]
    return next((row for row in rows if seeds <= set(row.get("seeds", []))), None)
