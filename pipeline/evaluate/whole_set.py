"""The row of the full training set in evaluation.json: the accuracy of the networks that ``pretrain`` trained."""

import statistics
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch

from m3d import accuracy
from m3d.backend.precision import resolve
from pipeline.config.parsing import to_dict
from pipeline.config.run_config import RunConfig
from pipeline.data.prepared_dataset import PreparedDataset
from pipeline.evaluate.results import read_rows, write_rows
from pipeline.evaluate.rows import WHOLE, EvaluationRow, with_defaults
from pipeline.formats.provenance import commit, joined
from pipeline.formats.run_folder import RunFolder
from pipeline.observability.progress import Display
from pipeline.pretrain.reader import ExpertsManifest, TrajectoryRecord, seal_of, trained_network
from pipeline.pretrain.scaling import Shares, training_images
from pipeline.pretrain.store import WEIGHT_SETTINGS
from pipeline.runtime.devices import assigned_device
from pipeline.runtime.task_pool import Slots, results

SCHEDULE = "pretrain"
"""Name of the protocol and of the schedule in the row."""


@dataclass(frozen=True, kw_only=True)
class _Networks:
    """What every task needs to score one of the networks."""

    config: RunConfig
    folder: RunFolder
    manifest: ExpertsManifest
    shards: str
    threads: int


def whole_set_row(
    config: RunConfig, folder: RunFolder, dataset: PreparedDataset, manifest: ExpertsManifest, shares: Shares
) -> EvaluationRow:
    """The row of the full training set: the stored one if it is of these networks, otherwise they are scored.

    Args:
        config: ``pretrain`` has the architecture and the number of trajectories, ``evaluate.on`` the split.
        folder: folder of the run, with evaluation.json.
        dataset: class shards with the test images.
        manifest: the trained networks.
        shares: what a task gets of the cluster.
    """
    stored = stored_row(config, folder, manifest)
    if stored is not None:
        return stored
    accuracies = _accuracies(config, folder, dataset, manifest, shares)
    row = _row(config, manifest, accuracies, training_images(dataset))
    write_rows(folder, [row])
    return with_defaults(row)


def stored_row(config: RunConfig, folder: RunFolder, manifest: ExpertsManifest) -> EvaluationRow | None:
    """The row of these networks and at least the requested trajectories in evaluation.json, or None."""
    networks = (WHOLE, config.pretrain.architecture, SCHEDULE, config.evaluate.on, seal_of(manifest))
    seeds = set(range(config.pretrain.trajectories))
    for row in read_rows(folder):
        key = tuple(row.get(name) for name in ("set", "architecture", "schedule", "on", "experts"))
        if key == networks and seeds <= set(row.get("seeds", [])):
            return row
    return None


def _accuracies(
    config: RunConfig, folder: RunFolder, dataset: PreparedDataset, manifest: ExpertsManifest, shares: Shares
) -> list[float]:
    """Accuracy of the last network of every requested trajectory, a task each."""
    networks = _Networks(config=config, folder=folder, manifest=manifest, shards=dataset.folder, threads=shares.threads)
    slots = Slots(count=shares.workers, cpus=shares.cpus, gpus=shares.gpus)
    seeds = range(config.pretrain.trajectories)
    calls = [partial(_score, networks, record["seed"], record["precision"]) for record in _records(manifest, seeds)]
    scores: dict[int, float] = {}
    with Display("score", len(calls)) as display:

        def show() -> None:
            display.update(len(scores), f"{len(scores)}/{len(calls)} networks")

        for seed, score in results("pretrain", calls, slots, config.resources, on_tick=show, note=display.note):
            scores[seed] = score
            show()
    return [scores[seed] for seed in seeds]


def _score(networks: _Networks, seed: int, precision: str) -> float:
    torch.set_num_threads(networks.threads)
    device = assigned_device()
    test = PreparedDataset(networks.shards, networks.config.data).test_set(networks.config.evaluate.on)
    network = trained_network(networks.folder, networks.manifest, seed).to(device)
    return accuracy(network, test, precision=resolve(precision, device))


def _row(config: RunConfig, manifest: ExpertsManifest, accuracies: list[float], images: int) -> EvaluationRow:
    seeds = list(range(len(accuracies)))
    records = _records(manifest, seeds)
    row = {
        "set": WHOLE,
        "architecture": config.pretrain.architecture,
        "protocol": SCHEDULE,
        "schedule": SCHEDULE,
        "knobs": {key: to_dict(config)["pretrain"][key] for key in WEIGHT_SETTINGS if key != "architecture"},
        "mean": statistics.fmean(accuracies),
        "std": statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0,
        "accuracies": accuracies,
        "seeds": seeds,
        "on": config.evaluate.on,
        "epochs": config.pretrain.epochs,
        "epoch": "last",
        "flip": "flip" in config.pretrain.training.augment.operations,
        "images_per_class": None,
        "images": images,
        "precision": ", ".join(sorted({record["precision"] for record in records})),
        "compiled": all(record["compiled"] for record in records),
        "experts": seal_of(manifest),
        "commit": joined(manifest.get("commit"), commit()),
    }
    return cast(EvaluationRow, row)  # augmentation and labels have their defaults and are not written


def _records(manifest: ExpertsManifest, seeds: range | list[int]) -> list[TrajectoryRecord]:
    """The records of the trajectories of some seeds, in their order."""
    by_seed = {record["seed"]: record for record in manifest["trajectories"]}
    return [by_seed[seed] for seed in seeds]
