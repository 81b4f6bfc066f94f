"""Short measurements of this cluster's hardware, from which ``plan`` predicts a run."""

import os
import resource
import time
from dataclasses import dataclass, replace

import torch

from m3d import ClassImages, Condenser, TestSet, Trainer, accuracy, training_of
from m3d.backend import compiler
from m3d.backend.device_names import short_device_name
from m3d.backend.execution import Execution, choose, compiles, training_flops
from m3d.backend.precision import resolve
from m3d.config import ConfigError
from m3d.pulse import beat
from pipeline.config.run_config import RunConfig
from pipeline.data.decode_image import BadImageError, pixels
from pipeline.data.prepare import absolute_path
from pipeline.data.shard_plan import ShardPlan
from pipeline.data.sources import open_source
from pipeline.errors import UserError
from pipeline.runtime.devices import assigned_device

CALIBRATION_S = 8.0
"""Seconds of timed iterations."""
DECODE_COUNT = 400
"""Largest number of images of the source that are decoded."""
DECODE_S = 2.0
"""Seconds after which no further image is decoded."""
TEST_COUNT = 1024
"""Test images that are scored."""

_TRAINERS: dict[tuple[object, ...], Trainer] = {}
"""Trainers of this process, since Ray gives it one task after another and compiled code serves the next."""


@dataclass(frozen=True, kw_only=True)
class CondenseTask:
    """What one actor of the run will condense."""

    config: RunConfig
    shards: ShardPlan
    group: tuple[int, ...]
    """Labels of the classes that are condensed together."""
    threads: int
    """Threads of torch."""
    share_of_actor: int
    """Classes that an actor condenses in the whole run, which decides whether compiling pays."""


@dataclass(frozen=True, kw_only=True)
class CondenseSpeed:
    """What one process measured of a group's condensation."""

    iteration_s: float
    """Seconds of an iteration; about 0 if none was timed."""
    compile_s: float
    """Seconds until the first iteration could begin, compiling included."""
    process_s: float
    """Seconds from submitting the call until its process made it."""
    peak_bytes: float
    """Peak memory of the process, or of the GPU, with the training images of the group."""
    device: str
    """Name of the GPU, or CPU."""
    execution: Execution


@dataclass(frozen=True, kw_only=True)
class EvaluateTask:
    """What one process of the evaluation will train and score."""

    config: RunConfig
    shards: ShardPlan
    architecture: str
    per_class: int
    """Training images per class."""
    threads: int
    """Threads of torch."""
    networks: int
    """Networks that a process trains in the whole run, which decides whether compiling pays."""


@dataclass(frozen=True, kw_only=True)
class EvaluateSpeed:
    """What one process measured of a network's training and scoring."""

    network_s: float
    """Seconds of a complete network."""
    warm_up_s: float
    """Seconds of the first batches, in which the process compiles."""


def measure_condense(task: CondenseTask, seconds: float, submitted: float) -> CondenseSpeed:
    """Times iterations on synthetic images in a process like an actor's.

    Args:
        task: what to condense.
        seconds: duration of the timed iterations; 0 only compiles.
        submitted: ``time.time()`` at which the task was submitted.

    Raises:
        UserError: condense.compile=on on a machine that cannot compile.
    """
    config, shards, group, threads = task.config, task.shards, task.group, task.threads
    began = time.time()
    torch.set_num_threads(threads)
    device, side = assigned_device(), config.data.image_size
    shape = (shards.channels, side, side)
    try:
        execution = choose(config.method, shape=shape, classes=task.share_of_actor, device=device, threads=threads)
    except ConfigError as error:
        raise UserError(str(error)) from None
    random = torch.Generator().manual_seed(0)
    # Enough images to start from and to draw batches from; their number does not change the speed.
    enough = max(config.condense.batch_real, config.condense.images_per_class * config.condense.factor**2)
    images = [torch.randint(0, 256, (enough, *shape), dtype=torch.uint8, generator=random) for _ in group]
    condenser = Condenser(
        ClassImages(images, group, seed=config.seed, device=device),
        config.method,
        mean=(0.5,) * shape[0],
        std=(0.25,) * shape[0],
        class_count=len(shards.names),
        execution=execution,
    )
    state = condenser.init()
    if execution.compiled:
        with compiler.alone():
            condenser.warm_up(state)
    compile_s = time.time() - began
    steps, timed = 0, time.perf_counter()
    while seconds and (steps < 2 or time.perf_counter() - timed < seconds):
        state, _ = condenser.step(state)
        beat()
        condenser.finished(state)  # waits for the device
        steps += 1
    iteration_s = (time.perf_counter() - timed) / max(1, steps)
    images_bytes = sum(shards.counts["train"][label] for label in group) * shape[0] * side**2
    return CondenseSpeed(
        iteration_s=iteration_s,
        compile_s=compile_s,
        process_s=began - submitted,
        peak_bytes=_peak_bytes(device) + images_bytes,
        device=short_device_name(device),
        execution=execution,
    )


def measure_evaluate(task: EvaluateTask) -> EvaluateSpeed:
    """Times training and scoring of a few batches of synthetic images in a process like the evaluation's.

    Args:
        task: what to train and score.

    Raises:
        ConfigError: evaluate.compile=on on a machine that cannot compile.
    """
    config, shards = task.config, task.shards
    torch.set_num_threads(task.threads)
    device, side, classes = assigned_device(), config.data.image_size, len(shards.names)
    shape, training = (shards.channels, side, side), training_of(config.evaluate)
    count = task.per_class * classes
    work = task.networks * training_flops(training.epochs, task.architecture, count, shape)
    compiled, _ = compiles(config.evaluate.compile, work, device, task.threads, key="evaluate.compile")
    began = time.perf_counter()
    precision = resolve(config.condense.precision, device)
    key = (task.architecture, shape, classes, precision, compiled, device)
    trainer = _TRAINERS.setdefault(
        key, Trainer(task.architecture, shape, classes=classes, precision=precision, compiled=compiled, device=device)
    )
    random = torch.Generator().manual_seed(0)
    images, labels = torch.randn((count, *shape), generator=random).to(device), torch.arange(count) % classes
    test_images = torch.randint(0, 256, (TEST_COUNT, *shape), dtype=torch.uint8, generator=random)
    test = TestSet(
        images=test_images,
        labels=torch.zeros(TEST_COUNT).long(),
        mean=(0.5,) * shape[0],
        std=(0.25,) * shape[0],
        classes=classes,
    )

    def train(epochs: int) -> float:
        started = time.perf_counter()
        trainer.train(images, labels, config=replace(training, epochs=epochs), seed=0)
        _settle(device)
        return time.perf_counter() - started

    def score() -> float:
        started = time.perf_counter()
        accuracy(trainer.network, test, precision=precision, logits=trainer.logits if compiled else None)
        return time.perf_counter() - started

    for _ in range(3 if device.type == "cuda" and compiled else 1):  # a CUDA graph is recorded at its second use
        train(1)
        score()
    warm_up_s = time.perf_counter() - began
    batches = -(-count // training.batch)
    epochs = max(1, min(training.epochs, 24 // batches))
    network_s = train(epochs) / epochs * training.epochs + score() / TEST_COUNT * sum(shards.counts["test"])
    return EvaluateSpeed(network_s=network_s, warm_up_s=warm_up_s)


def decode_rate(config: RunConfig, shards: ShardPlan, cores: int) -> float:
    """Images per second that ``cores`` cores decode, measured with the first images of the source on one of them."""
    items = open_source(absolute_path(config.data)).read("train", [shards.source_labels[0]])
    began, count = time.perf_counter(), 0
    for item in items:
        try:
            pixels(item.content, config.data.image_size, shards.channels)
        except BadImageError:
            continue
        count += 1
        if count >= DECODE_COUNT or time.perf_counter() - began > DECODE_S:
            break
    return max(1, count) / max(1e-6, time.perf_counter() - began) * cores


def _peak_bytes(device: torch.device) -> float:
    """Peak memory of the GPU, or of this process."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if os.uname().sysname == "Darwin" else 1024)


def _settle(device: torch.device) -> None:
    """Waits until the device has done everything that was queued."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
