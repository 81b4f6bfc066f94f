"""The rows of a cell with m3d alone: a network per set and seed, each kept while it is trained and once it is scored."""

import hashlib
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch
from torch import Tensor

from m3d import standardise, training_of, trials
from m3d.backend.execution import compiles, training_flops
from m3d.backend.precision import resolve
from m3d.seeding import derive
from tests.reproduce.alone_cell import CHECKPOINT_S, Made, Origin, Task, despite_compiler, replace_file
from tests.reproduce.cells import OutOfTimeError

SETS = ("condensed", "random", "mosaic")
ARCHITECTURE = "convnet3"


class Network(TypedDict):
    """A trained and scored network."""

    accuracy: float
    best: float | None
    """Best test accuracy during training, if the task looks at it."""
    per_class: list[float]
    images: int
    precision: str
    origins: list[Origin]


def rows(task: Task, made: Made) -> tuple[list[dict[str, Any]], list[Origin]]:
    """A row per set, and where their networks were trained; without the compiler from where it failed.

    Raises:
        OutOfTimeError: the time is over; what is done is kept.
        ConfigError: a compiler that was asked for failed.
    """
    return despite_compiler(task, lambda given: _rows(given, made))


def _rows(task: Task, made: Made) -> tuple[list[dict[str, Any]], list[Origin]]:
    found, origins = [], []
    for name in SETS:
        scored = _scored(name, task, made)
        found.append(_row(name, task, scored))
        origins += [origin for one in scored for origin in one["origins"]]
    return found, origins


def training_images(name: str, task: Task, made: Made, seed: int) -> tuple[Tensor, Tensor]:
    """Normalised images and labels of a set, drawn as the pipeline draws them."""
    if name != "random":
        return (made.condensed if name == "condensed" else made.start).views()
    train, test, count = task.images.train, task.images.test, task.condense.images_per_class

    def chosen(label: int, held: Tensor) -> Tensor:
        random = np.random.default_rng(derive(task.seed, "random", label, seed))
        return held[torch.from_numpy(np.sort(random.permutation(len(held))[:count]))]

    real = torch.cat([chosen(label, held) for label, held in enumerate(train)])
    return standardise(real.float() / 255, test.mean, test.std), torch.arange(len(train)).repeat_interleave(count)


def _scored(name: str, task: Task, made: Made) -> list[Network]:
    """What became of the network of every seed."""
    path = task.place / f"{name}-{_identity(name, task, made)}.json"
    held: list[Network] = json.loads(path.read_text()) if path.exists() else []
    for seed in range(len(held), task.evaluate.seeds):
        if time.monotonic() >= task.ends:
            raise OutOfTimeError
        held.append(_network(name, task, made, seed, path.with_suffix(".pt")))
        replace_file(path, json.dumps(held).encode())
        print(f"{task.cell.name}: {name}, seed {seed}: {held[-1]['accuracy']:.2f}", flush=True)
    return held


def _identity(name: str, task: Task, made: Made) -> str:
    """Short checksum of what the figures follow from besides the seed: stored pixels, not decoded ones, whose last bits may differ."""
    stored = {"condensed": made.condensed, "mosaic": made.start}
    images = stored[name].images_KSCHW.cpu() if name in stored else training_images(name, task, made, 0)[0]
    precision = resolve("auto", task.device)
    settings = json.dumps([asdict(training_of(task.evaluate)), task.evaluate.best_epoch, precision])
    return hashlib.sha256(images.contiguous().numpy().tobytes() + settings.encode()).hexdigest()[:12]


def _network(name: str, task: Task, made: Made, seed: int, kept: Path) -> Network:
    training, precision = training_of(task.evaluate), resolve("auto", task.device)
    images, labels = training_images(name, task, made, seed)
    channels, height, width = images.shape[1:]
    work = task.evaluate.seeds * training_flops(training, ARCHITECTURE, len(images), (channels, height, width))
    compiled, _ = compiles(task.evaluate.compile, work, task.device, key="--compile")
    keeper = Keeper(kept, task.ends, task.origin(precision, compiled=compiled))
    ((_, found),) = trials(
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
    counts = found.confusion
    return {
        "accuracy": found.accuracy,
        "best": found.best_accuracy,
        "per_class": (100 * counts.diagonal() / counts.sum(1)).tolist(),
        "images": len(images),
        "precision": precision,
        "origins": keeper.origins,
    }


class Keeper:
    """Keeps the network under way, and stops its training when the time is over."""

    def __init__(self, path: Path, ends: float, origin: Origin) -> None:
        self.path, self.ends, self.origins, self._written = path, ends, [origin], time.monotonic()

    def load(self, seed: int) -> tuple[int, dict[str, Tensor]] | None:
        """Epochs that are done and the tensors after them, or None."""
        if not self.path.exists():
            return None
        held = torch.load(self.path, weights_only=True)
        if held["seed"] != seed:
            return None
        self.origins = [*(one for one in held["origins"] if one not in self.origins), *self.origins]
        return held["epoch"], held["tensors"]

    def keep(self, seed: int, epoch: int, tensors: Callable[[], dict[str, Tensor]]) -> None:
        """Stores the network every so often. Raises OutOfTimeError when the time is over, the network stored."""
        over = time.monotonic() >= self.ends
        if over or time.monotonic() - self._written > CHECKPOINT_S:
            held = {key: value.cpu() for key, value in tensors().items()}
            replace_file(self.path, {"seed": seed, "epoch": epoch, "origins": self.origins, "tensors": held})
            self._written = time.monotonic()
        if over:
            raise OutOfTimeError

    def finished(self, seed: int) -> None:
        """Removes the file."""
        self.path.unlink(missing_ok=True)


def _row(name: str, task: Task, scored: list[Network]) -> dict[str, Any]:
    training, accuracies = training_of(task.evaluate), [one["accuracy"] for one in scored]
    by_class = zip(*(one["per_class"] for one in scored), strict=True)
    every, looked = task.evaluate.best_epoch, [best for one in scored if (best := one["best"]) is not None]
    best = {"every": every, "mean": statistics.fmean(looked), "accuracies": looked} if every else None
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
        "precision": ", ".join(sorted({one["precision"] for one in scored})),
        "training": asdict(training),
    }
