"""The rows of a cell with m3d alone: one network per set and seed. Networks are kept while they train, scores once they are known."""

import hashlib
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from m3d import standardise, training_of, trials
from m3d.backend.execution import compiles, training_flops
from m3d.backend.precision import resolve
from m3d.seeding import derive
from tests.reproduce.alone_cell import CHECKPOINT_S, Made, Task, despite_compiler, replace_file
from tests.reproduce.cells import OutOfTimeError

SETS = ("condensed", "random", "mosaic")
ARCHITECTURE = "convnet3"


def rows(task: Task, made: Made) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """A row per set, and the origins of their networks. If the compiler fails under ``auto``, the rest runs without it.

    Raises:
        OutOfTimeError: if the time is over; finished work is kept.
        ConfigError: if a required compiler failed.
    """
    return despite_compiler(task, lambda current: _rows(current, made))


def _rows(task: Task, made: Made) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    measured, origins = [], []
    for name in SETS:
        scored = _scored(name, task, made)
        measured.append(_row(name, task, scored))
        origins += [origin for score in scored for origin in score["origins"]]
    return measured, origins


def training_images(name: str, task: Task, made: Made, seed: int) -> tuple[Tensor, Tensor]:
    """Normalised images and labels of a set, drawn exactly as the pipeline draws them."""
    if name != "random":
        return (made.condensed if name == "condensed" else made.start).views()
    train, test, count = task.images.train, task.images.test, task.condense.images_per_class

    def chosen(label: int, images: Tensor) -> Tensor:
        random = np.random.default_rng(derive(task.seed, "random", label, seed))
        return images[torch.from_numpy(np.sort(random.permutation(len(images))[:count]))]

    real = torch.cat([chosen(label, images) for label, images in enumerate(train)])
    return standardise(real.float() / 255, test.mean, test.std), torch.arange(len(train)).repeat_interleave(count)


def _scored(name: str, task: Task, made: Made) -> list[dict[str, Any]]:
    """The scores of the network of every seed."""
    path = task.place / f"{name}-{_identity(name, task, made)}.json"
    scored: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []
    for seed in range(len(scored), task.evaluate.seeds):
        if time.monotonic() >= task.ends:
            raise OutOfTimeError
        scored.append(_network(name, task, made, seed, path.with_suffix(".pt")))
        replace_file(path, json.dumps(scored).encode())
        print(f"{task.cell.name}: {name}, seed {seed}: {scored[-1]['accuracy']:.2f}", flush=True)
    return scored


def _identity(name: str, task: Task, made: Made) -> str:
    """Short checksum of everything that the figures depend on except the seed. It covers stored pixels: the last bits of decoded ones may differ."""
    stored = {"condensed": made.condensed, "mosaic": made.start}
    images = stored[name].images_KSCHW.cpu() if name in stored else training_images(name, task, made, 0)[0]
    precision = resolve("auto", task.device)
    settings = json.dumps([asdict(training_of(task.evaluate)), task.evaluate.best_epoch, precision])
    return hashlib.sha256(images.contiguous().numpy().tobytes() + settings.encode()).hexdigest()[:12]


def _network(name: str, task: Task, made: Made, seed: int, kept: Path) -> dict[str, Any]:
    training, precision = training_of(task.evaluate), resolve("auto", task.device)
    images, labels = training_images(name, task, made, seed)
    channels, height, width = images.shape[1:]
    work = task.evaluate.seeds * training_flops(training, ARCHITECTURE, len(images), (channels, height, width))
    compiled, _ = compiles(task.evaluate.compile, work, task.device, key="--compile")
    keeper = Keeper(kept, task.ends, task.origin(precision, compiled=compiled))
    ((_, score),) = trials(
        ARCHITECTURE,
        images.to(task.device),
        labels.to(task.device),
        task.images.test,
        config=training,
        seeds=[seed],
        precision=precision,
        compiled=compiled,
        best_epoch=task.evaluate.best_epoch,
        keeper=keeper,
    )
    counts = score.confusion
    return {
        "accuracy": score.accuracy,
        "best": score.best_accuracy,
        "per_class": (100 * counts.diagonal() / counts.sum(1)).tolist(),
        "images": len(images),
        "precision": precision,
        "origins": keeper.origins,
    }


class Keeper:
    """Keeps the network that is being trained, and stops its training when the time is over."""

    def __init__(self, path: Path, ends: float, origin: dict[str, Any]) -> None:
        self.path, self.ends, self.origins, self._written = path, ends, [origin], time.monotonic()

    def load(self, seed: int) -> tuple[int, dict[str, Tensor]] | None:
        """The finished epochs and the tensors after them; None if no network of that seed is kept."""
        if not self.path.exists():
            return None
        stored = torch.load(self.path, weights_only=True)
        if stored["seed"] != seed:
            return None
        self.origins = [*(origin for origin in stored["origins"] if origin not in self.origins), *self.origins]
        return stored["epoch"], stored["tensors"]

    def keep(self, seed: int, epoch: int, tensors: Callable[[], dict[str, Tensor]]) -> None:
        """Stores the network every CHECKPOINT_S. When the time is over, stores it and raises OutOfTimeError."""
        over = time.monotonic() >= self.ends
        if over or time.monotonic() - self._written > CHECKPOINT_S:
            copied = {key: value.cpu() for key, value in tensors().items()}
            replace_file(self.path, {"seed": seed, "epoch": epoch, "origins": self.origins, "tensors": copied})
            self._written = time.monotonic()
        if over:
            raise OutOfTimeError

    def finished(self, seed: int) -> None:
        """Removes the file of a network that is scored."""
        self.path.unlink(missing_ok=True)


def _row(name: str, task: Task, scored: list[dict[str, Any]]) -> dict[str, Any]:
    training, accuracies = training_of(task.evaluate), [score["accuracy"] for score in scored]
    by_class = zip(*(score["per_class"] for score in scored), strict=True)
    every, highest = task.evaluate.best_epoch, [score["best"] for score in scored]
    best = {"every": every, "mean": statistics.fmean(highest), "accuracies": highest} if every else None
    return {
        "set": name,
        "architecture": ARCHITECTURE,
        "protocol": task.evaluate.protocol,
        "on": "test",
        "augmentation": "protocol",
        "labels": "hard",
        "mean": statistics.fmean(accuracies),
        "std": statistics.stdev(accuracies),
        "accuracies": accuracies,
        "seeds": list(range(len(scored))),
        "epochs": training.epochs,
        "epoch": "last",
        "per_class": [statistics.fmean(column) for column in by_class],
        **({"best_epoch_compatibility": best} if best else {}),
        "images": scored[-1]["images"],
        "precision": ", ".join(sorted({score["precision"] for score in scored})),
        "training": asdict(training),
    }
