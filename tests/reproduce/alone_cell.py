"""One cell with m3d alone: condensed, resuming from its checkpoint, then evaluated network by network."""

import json
import platform
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from m3d import (
    Augment,
    ClassImages,
    Condense,
    Condensed,
    Condenser,
    CondenseState,
    ConfigError,
    Encoder,
    Evaluate,
    Kernel,
    Outcome,
    iterate,
    training_of,
)
from m3d.backend import compiler
from m3d.backend.device_names import device_name
from m3d.config import CompilerError
from tests.reproduce.cells import Cell, OutOfTimeError
from tests.reproduce.packed import Images

T = TypeVar("T")

CHECKPOINT_S = 20.0
"""Seconds between two checkpoints."""
PUBLISHED_SCHEDULE = (10_000, 1000)
"""Iterations and evaluation epochs of the published schedule."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """A cell with the settings that m3d needs: the published ones, which are m3d's defaults."""

    cell: Cell
    condense: Condense
    evaluate: Evaluate
    seed: int
    images: Images
    device: torch.device
    place: Path
    """Folder of unfinished work."""
    ends: float
    """``time.monotonic()`` at which to stop."""
    commit: str

    @property
    def schedule(self) -> tuple[int, int]:
        """Iterations and evaluation epochs."""
        return self.condense.iterations, training_of(self.evaluate).epochs

    def origin(self, precision: str, *, compiled: bool) -> dict[str, Any]:
        """Where and how something was computed; parts of a cell may have different origins."""
        return {
            "commit": self.commit,
            "device": device_name(self.device),
            "precision": precision,
            "compiled": compiled,
            "python": platform.python_version(),
            "torch": str(torch.__version__),
        }


@dataclass(frozen=True, kw_only=True)
class Made:
    """A condensed set and its origins."""

    condensed: Condensed
    start: Condensed
    """Mosaics that the condensation started from."""
    seconds: float
    """Seconds of the iterations, without loading and compiling."""
    origins: list[dict[str, Any]]
    """Origins of the iterations, in order."""


def condense(task: Task) -> Made:
    """The condensed set. If the compiler fails under ``auto``, the rest is computed without it.

    Raises:
        OutOfTimeError: if the time is over; the checkpoint has what was computed.
        ConfigError: if the checkpoint has more iterations or another precision, or a required compiler failed.
    """
    return despite_compiler(task, _condensed)


def despite_compiler(task: Task, run: Callable[[Task], T]) -> T:
    """``run(task)``. If the compiler fails under ``auto``, ``run`` resumes from its checkpoints without the compiler."""
    try:
        return run(task)
    except Exception as error:
        if task.condense.compile == "off" or not compiler.failed(error):
            raise
        reason = compiler.reason(error)
        if task.condense.compile == "on":
            raise CompilerError(f"--compile: the compiler failed ({reason}); use --compile off") from None
    # Outside of the except block, where the error no longer keeps its frames, and with them a GPU's memory, alive.
    print(f"{task.cell.name}: continues without the compiler, which failed: {reason}", flush=True)
    eager = {"condense": replace(task.condense, compile="off"), "evaluate": replace(task.evaluate, compile="off")}
    return run(replace(task, **eager))


def condenser_of(task: Task) -> Condenser:
    """The condenser of all classes as one group."""
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


def _condensed(task: Task) -> Made:
    condenser, path, iterations = condenser_of(task), task.place / "checkpoint.pt", task.condense.iterations
    state, start, passed = condenser.init(), condenser.result(condenser.init()), 0.0
    precision = condenser.execution.precision
    origin = task.origin(precision, compiled=condenser.execution.compiled)
    origins = [origin]
    print(f"{task.cell.name}: {json.dumps(asdict(condenser.execution))}", flush=True)
    if path.exists():
        state, passed, origins = _read(path, task)
        if state.iteration > iterations:
            raise ConfigError(f"{path}: is already at iteration {state.iteration}; give another --work")
        if state.iteration < iterations and origin not in origins:
            if origins[-1]["precision"] != precision:
                used = origins[-1]["precision"]
                raise ConfigError(f"{path}: is in {used}, but this machine chooses {precision}; give another --work")
            origins.append(origin)
    before = passed
    if condenser.execution.compiled and state.iteration < iterations:
        if time.monotonic() >= task.ends:
            raise OutOfTimeError
        condenser.warm_up(state)
    began = saved = time.monotonic()
    for step in iterate(condenser, state):
        state, now = step.state, time.monotonic()
        if step.outcome is Outcome.FINISHED or now - saved > CHECKPOINT_S or now >= task.ends:
            tensors = {key: value.cpu() for key, value in vars(state).items() if isinstance(value, Tensor)}
            saved = time.monotonic()
            passed = before + saved - began
            about = {"iteration": state.iteration, "seconds": passed, "origins": origins}
            replace_file(path, {**about, "tensors": tensors})
            each = passed / state.iteration
            print(f"{task.cell.name}: {state.iteration} of {iterations} iterations, {each:.4f} s each", flush=True)
            if now >= task.ends:
                raise OutOfTimeError
    return Made(condensed=condenser.result(state), start=start, seconds=passed, origins=origins)


def _read(path: Path, task: Task) -> tuple[CondenseState, float, list[dict[str, Any]]]:
    stored = torch.load(path, weights_only=True)
    tensors = {key: value.to(task.device) for key, value in stored["tensors"].items()}
    return CondenseState(iteration=stored["iteration"], **tensors), stored["seconds"], stored["origins"]


def result(task: Task, made: Made, rows: list[dict[str, Any]], origins: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The content of a finished cell's file, as in ``tests.reproduce.measure`` but without scores, which follow from the rows."""
    chosen = task.condense
    schedule = {
        key: getattr(chosen, key) for key in ("iterations", "images_per_class", "factor", "batch_real", "start")
    }
    iterations, epochs = task.schedule
    settings = [*task.cell.settings, f"evaluate.seeds={task.evaluate.seeds}"]
    if task.evaluate.best_epoch:
        settings.append(f"evaluate.best_epoch={task.evaluate.best_epoch}")
    if task.schedule != PUBLISHED_SCHEDULE:
        settings += [f"condense.iterations={iterations}", f"evaluate.epochs={epochs}"]
    options = " ".join(f"--set {setting}" for setting in settings)
    evaluated = list(origins)
    return {
        "cell": task.cell.name,
        "preset": task.cell.preset,
        "comparable": task.schedule == PUBLISHED_SCHEDULE,
        "note": f"With m3d alone (`python -m tests.reproduce.alone {task.cell.name}`): all classes in one process; the "
        f"iterations took {made.seconds:.0f} s. The command below does the same through Ray. Baselines that need a "
        "feature network were not measured.",
        "commands": [f"python -m pipeline run --preset {task.cell.preset} --data DIR {options} --out OUT"],
        "commit": {"condensed": _joined(made.origins, "commit"), "evaluated": _joined(evaluated, "commit")},
        "hardware": {
            "condensed": f"{_joined(made.origins, 'device')}, {_joined(made.origins, 'precision')}",
            "evaluated": _joined(evaluated, "device"),
        },
        "versions": {name: _joined([*made.origins, *evaluated], name) for name in ("python", "torch")},
        "origins": {
            "condensed": made.origins,
            "evaluated": [origin for i, origin in enumerate(evaluated) if origin not in evaluated[:i]],
        },
        "schedule": schedule | {"learning_rate": chosen.step_size, "seed": task.seed, "encoder": "convnet3"},
        "rows": rows,
    }


def _joined(origins: Iterable[dict[str, Any]], key: str) -> str:
    """The different values of ``key``, sorted and separated by commas."""
    return ", ".join(sorted({origin[key] for origin in origins}))


def replace_file(path: Path, content: bytes | dict[str, Any]) -> None:
    """Writes a file atomically; content other than bytes is written by ``torch.save``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    if isinstance(content, bytes):
        fresh.write_bytes(content)
    else:
        torch.save(content, fresh)
    fresh.replace(path)
