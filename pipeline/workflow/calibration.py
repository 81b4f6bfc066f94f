"""How fast this cluster's hardware is: short measurements that an estimate is made of."""

import os
import resource
import time
from dataclasses import replace
from typing import Any

import ray
import torch

from m3d import ClassImages, Condenser, TestSet, Trainer, accuracy, training_of
from m3d.backend import compiler
from m3d.backend.device_names import short_device_name
from m3d.backend.execution import choose, compiles, training_flops
from m3d.backend.precision import resolve
from m3d.config import ConfigError
from pipeline.config.run_config import RunConfig
from pipeline.data.decode_image import BadImageError, pixels
from pipeline.data.prepare import absolute_path
from pipeline.data.shard_plan import ShardPlan
from pipeline.data.sources import open_source
from pipeline.errors import UserError
from pipeline.runtime.devices import device_of_actor

CALIBRATION_S = 8.0
"""Seconds of iterations that are timed."""
DECODED = 400
"""Images of the source that are decoded at most, or as many as two seconds allow."""
TESTED = 1024
"""Test images that are scored."""

_TRAINERS: dict[Any, Trainer] = {}


@ray.remote(max_retries=2)
def condense_speed(
    config: RunConfig,
    shards: ShardPlan,
    group: tuple[int, ...],
    threads: int,
    share_of_actor: int,
    seconds: float,
    asked: float,
) -> dict[str, Any]:
    """Iterates on made-up images in a process like an actor's: seconds of an iteration, of compiling and of the start; bytes; what it ran on.

    Args:
        config, shards: of the run.
        group: labels of the classes.
        threads: of torch.
        share_of_actor: classes that an actor will condense, for the choice whether to compile.
        seconds: of iterations; 0 only compiles.
        asked: ``time.time()`` when the task was submitted.

    Raises:
        UserError: no compiler where one is asked for.
    """
    began = time.time()
    torch.set_num_threads(threads)
    device, side = device_of_actor(), config.data.image_size
    shape = (shards.channels, side, side)
    try:
        execution = choose(config.method, shape=shape, classes=share_of_actor, device=device, threads=threads)
    except ConfigError as error:
        raise UserError(str(error)) from None
    random = torch.Generator().manual_seed(0)
    # Enough images to draw from and to begin with; the speed does not depend on how many there are.
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
    warm_s = time.time() - began
    steps, timed = 0, time.perf_counter()
    while seconds and (steps < 2 or time.perf_counter() - timed < seconds):
        state, _ = condenser.step(state)
        condenser.finished(state)  # waits for the device
        steps += 1
    data = sum(shards.counts["train"][label] for label in group) * shape[0] * side**2
    return {
        "iteration_s": (time.perf_counter() - timed) / max(1, steps),
        "compile_s": warm_s,
        "process_s": began - asked,
        "bytes": _highest_bytes(device) + data,
        "device": short_device_name(device),
        "execution": execution.as_dict(),
    }


@ray.remote(max_retries=2)
def evaluate_speed(
    config: RunConfig, shards: ShardPlan, architecture: str, per_class: int, threads: int, networks: int
) -> tuple[float, float]:
    """Trains and scores on made-up images for a few batches: seconds of a whole network, and of what comes first, in which it compiles.

    Args:
        config, shards, architecture: what is evaluated.
        per_class: training images of a class.
        threads: of torch.
        networks: that a process will train, for the choice whether to compile.
    """
    torch.set_num_threads(threads)
    device, side, classes = device_of_actor(), config.data.image_size, len(shards.names)
    shape, training = (shards.channels, side, side), training_of(config.evaluate)
    count = per_class * classes
    work = networks * training_flops(training.epochs, architecture, count, shape)
    compiled, _ = compiles(config.evaluate.compile, work, device, threads, key="evaluate.compile")
    began = time.perf_counter()
    precision = resolve(config.condense.precision, device)
    key = (architecture, shape, classes, precision, compiled, device)
    trainer = _TRAINERS.setdefault(
        key, Trainer(architecture, shape, classes=classes, precision=precision, compiled=compiled, device=device)
    )
    random = torch.Generator().manual_seed(0)
    images, labels = torch.randn((count, *shape), generator=random).to(device), torch.arange(count) % classes
    tested = torch.randint(0, 256, (TESTED, *shape), dtype=torch.uint8, generator=random)
    test = TestSet(
        images=tested,
        labels=torch.zeros(TESTED).long(),
        mean=(0.5,) * shape[0],
        std=(0.25,) * shape[0],
        classes=classes,
    )

    def seconds(epochs: int) -> float:
        started = time.perf_counter()
        trainer.train(images, labels, config=replace(training, epochs=epochs), seed=0)
        _settle(device)
        return time.perf_counter() - started

    def scoring() -> float:
        started = time.perf_counter()
        accuracy(trainer.network, test, precision=precision, logits=trainer.logits if compiled else None)
        return time.perf_counter() - started

    for _ in range(3 if device.type == "cuda" and compiled else 1):  # a CUDA graph is recorded at its second use
        seconds(1)
        scoring()
    warm_s = time.perf_counter() - began
    batches = -(-count // training.batch)
    epochs = max(1, min(training.epochs, 24 // batches))
    total_tests = sum(shards.counts["test"])
    return seconds(epochs) / epochs * training.epochs + scoring() / TESTED * total_tests, warm_s


def decode_rate(config: RunConfig, shards: ShardPlan, cores: int) -> float:
    """Images a second on so many cores, by the first images of the source."""
    items = open_source(absolute_path(config.data)).read("train", [shards.source_labels[0]])
    began, count = time.perf_counter(), 0
    for item in items:
        try:
            pixels(item.content, config.data.image_size, shards.channels)
        except BadImageError:
            continue
        count += 1
        if count >= DECODED or time.perf_counter() - began > 2:
            break
    return max(1, count) / max(1e-6, time.perf_counter() - began) * cores


def _highest_bytes(device: torch.device) -> float:
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if os.uname().sysname == "Darwin" else 1024)


def _settle(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
