"""One cell with m3d alone: condensed from its checkpoint on, evaluated network by network."""

import json
import platform
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from m3d import (
    Augment,
    ClassImages,
    Condense,
    Condensed,
    Condenser,
    CondenseState,
    Encoder,
    Evaluate,
    Kernel,
    Outcome,
    TestSet,
    iterate,
    standardise,
    training_of,
    trials,
)
from m3d.device_names import device_name
from m3d.execution import Execution
from m3d.precision import resolve
from m3d.seeding import derive
from tests.reproduce.cells import Cell

SETS = ("condensed", "random", "mosaic")
ARCHITECTURE = "convnet3"
CHECKPOINT_S = 20.0


class OutOfTimeError(Exception):
    """The piece of time is used up; the same command goes on."""


class OutOfReachError(Exception):
    """A checkpoint is beyond the iterations that are asked for."""


@dataclass(frozen=True, kw_only=True)
class Images:
    """A packed data set."""

    train: list[Tensor]
    """Per class, uint8 [n, C, H, W]."""
    test: TestSet


@dataclass(frozen=True, kw_only=True)
class Task:
    """A cell as m3d takes it: the published settings, which are m3d's defaults."""

    cell: Cell
    condense: Condense
    evaluate: Evaluate
    seed: int
    images: Images
    device: torch.device
    place: Path
    """Folder of what is under way."""
    ends: float
    """``time.monotonic()`` at which to stop."""
    commit: str


def run(task: Task) -> dict[str, Any]:
    """Does what is missing of a cell and returns its result. Raises OutOfTimeError when the time is over."""
    condenser = condenser_of(task)
    condensed, seconds = condense(condenser, task)
    rows = [row(name, condensed, condenser, task) for name in SETS]
    return _result(task, rows, condenser.execution, seconds)


def published(iterations: int, epochs: int | None) -> bool:
    """Whether that is the published schedule."""
    return (iterations, epochs or 1000) == (10_000, 1000)


def condenser_of(task: Task) -> Condenser:
    """All classes as one group."""
    test = task.images.test
    return Condenser(
        ClassImages(task.images.train, range(test.classes), seed=task.seed, device=task.device),
        condense=task.condense,
        kernel=Kernel(),
        augment=Augment(),
        encoder=Encoder(),
        mean=test.mean,
        std=test.std,
        class_count=test.classes,
    )


def condense(condenser: Condenser, task: Task) -> tuple[Condensed, float]:
    """The condensed set, from the checkpoint on, and the seconds that its iterations took.

    A checkpoint of fewer iterations is gone on from: what an iteration does follows from its number alone.
    """
    device, seconds, path = task.device, 0.0, task.place / "checkpoint.pt"
    state = condenser.init()
    if path.exists():
        held = torch.load(path, weights_only=True)
        if held["iteration"] > condenser.condense.iterations:
            raise OutOfReachError(f"{path}: is at iteration {held['iteration']} already; give another --work")
        seconds = held.pop("seconds")
        tensors = {key: value.to(device) for key, value in held.items() if key != "iteration"}
        state = CondenseState(iteration=held["iteration"], **tensors)
    else:
        condenser.warm_up(state)
    began = saved = time.monotonic()

    def save() -> None:
        _settle(device)
        held = {**vars(state), "seconds": seconds + time.monotonic() - began}
        replace_file(path, {key: value.cpu() if isinstance(value, Tensor) else value for key, value in held.items()})

    for step in iterate(condenser, state):
        state, now = step.state, time.monotonic()
        if step.outcome is Outcome.FINISHED or now - saved > CHECKPOINT_S or now >= task.ends:
            save()
            saved = time.monotonic()
            done = f"{state.iteration} of {condenser.condense.iterations} iterations"
            print(f"{task.cell.name}: {done}, {(seconds + saved - began) / state.iteration:.4f} s each", flush=True)
            if now >= task.ends:
                raise OutOfTimeError
    return condenser.result(state), torch.load(path, weights_only=True)["seconds"]


def row(name: str, condensed: Condensed, condenser: Condenser, task: Task) -> dict[str, Any]:
    """The row of one set: a network per seed, each kept as soon as it is scored."""
    training, precision = training_of(task.evaluate), resolve("auto", task.device)
    path = task.place / f"{name}-{task.condense.iterations}-{training.epochs}-{task.evaluate.best_epoch}.json"
    held: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []
    for seed in range(len(held), task.evaluate.seeds):
        if time.monotonic() >= task.ends:
            raise OutOfTimeError
        images, labels = training_images(name, condensed, condenser, task, seed)
        ((_, score),) = trials(
            ARCHITECTURE,
            images.to(task.device),
            labels.to(task.device),
            task.images.test,
            config=training,
            seeds=[seed],
            precision=precision,
            compiled=condenser.execution.compiled,
            best_epoch=task.evaluate.best_epoch,
        )
        counts = score.confusion
        per_class = (100 * counts.diagonal() / counts.sum(1)).tolist()
        held.append({"accuracy": score.accuracy, "best": score.best_accuracy, "per_class": per_class})
        replace_file(path, json.dumps(held).encode())
        print(f"{task.cell.name}: {name}, seed {seed}: {score.accuracy:.2f}", flush=True)
    accuracies = [one["accuracy"] for one in held]
    images, _ = training_images(name, condensed, condenser, task, 0)
    about: dict[str, Any] = {"set": name, "architecture": ARCHITECTURE, "protocol": "idc", "on": "test"}
    about |= {"augmentation": "protocol", "labels": "hard", "mean": statistics.fmean(accuracies)}
    about |= {"std": statistics.stdev(accuracies), "accuracies": accuracies, "seeds": list(range(len(held)))}
    about |= {"epochs": training.epochs, "epoch": "last", "images": len(images), "precision": precision}
    about |= {
        "per_class": [statistics.fmean(column) for column in zip(*(one["per_class"] for one in held), strict=True)]
    }
    if task.evaluate.best_epoch:
        looked = [one["best"] for one in held]
        every = task.evaluate.best_epoch
        about["best_epoch_compatibility"] = {"every": every, "mean": statistics.fmean(looked), "accuracies": looked}
    return {**about, "training": asdict(training), "commit": task.commit, "device": device_name(task.device)}


def training_images(
    name: str, condensed: Condensed, condenser: Condenser, task: Task, seed: int
) -> tuple[Tensor, Tensor]:
    """Normalised images and labels, drawn as the pipeline draws them."""
    mean, std = condenser.mean, condenser.std
    if name == "condensed":
        return condensed.views()
    if name == "mosaic":
        start = condenser.init().pixels_KSCHW
        ids = condensed.class_ids
        return Condensed(images_KSCHW=start, class_ids=ids, factor=task.condense.factor, mean=mean, std=std).views()
    count, train = task.condense.images_per_class, task.images.train

    def chosen(label: int, held: Tensor) -> Tensor:
        random = np.random.default_rng(derive(task.seed, "random", label, seed))
        return held[torch.from_numpy(np.sort(random.permutation(len(held))[:count]))]

    real = torch.cat([chosen(label, held) for label, held in enumerate(train)])
    return standardise(real.float() / 255, mean, std), torch.arange(len(train)).repeat_interleave(count)


def _result(task: Task, rows: list[dict[str, Any]], execution: Execution, seconds: float) -> dict[str, Any]:
    condense, device = task.condense, device_name(task.device)
    schedule = {
        key: getattr(condense, key) for key in ("iterations", "images_per_class", "factor", "batch_real", "start")
    }
    schedule |= {"learning_rate": condense.step_size, "seed": task.seed, "encoder": ARCHITECTURE}
    return {
        "cell": task.cell.name,
        "preset": task.cell.preset,
        "comparable": published(condense.iterations, training_of(task.evaluate).epochs),
        "note": f"With m3d alone (python -m tests.reproduce.alone {task.cell.name} --data FOLDER): all classes in one process; "
        f"the iterations took {seconds:.0f} s. The commands below do the same through Ray.",
        "commands": [f"python -m pipeline run --preset {task.cell.preset} --data DIR {_sets(task)}--out OUT"],
        "commit": {"condensed": task.commit, "evaluated": task.commit},
        "hardware": {"condensed": f"{device}, {execution.precision}", "evaluated": device},
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "schedule": schedule,
        "rows": rows,
        "scores": [],
    }


def _sets(task: Task) -> str:
    settings = [*task.cell.settings, f"evaluate.seeds={task.evaluate.seeds}"]
    return "".join(f"--set {setting} " for setting in settings)


def _settle(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def replace_file(path: Path, content: bytes | dict[str, Any]) -> None:
    """Writes a file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    if isinstance(content, bytes):
        fresh.write_bytes(content)
    else:
        torch.save(content, fresh)
    fresh.replace(path)
