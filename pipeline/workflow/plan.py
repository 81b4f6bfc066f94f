"""What a run will take, before it begins: predicted from a short calibration on the cluster's own hardware."""

import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from rich.table import Table

from m3d.backend.execution import Execution
from pipeline.config.run_config import RunConfig
from pipeline.data.prepare import absolute_path
from pipeline.data.shard_plan import ShardPlan, plan_shards
from pipeline.evaluate.rows import set_names
from pipeline.evaluate.scoring import share
from pipeline.observability.progress import Display, clock, say
from pipeline.runtime import nodes, session, task_processes
from pipeline.runtime.placement import Placement, capacity
from pipeline.runtime.task_pool import Call, Slots, TaskPool
from pipeline.workflow.calibration import (
    CALIBRATION_S,
    CondenseSpeed,
    CondenseTask,
    EvaluateSpeed,
    EvaluateTask,
    decode_rate,
    measure_condense,
    measure_evaluate,
)


@dataclass(frozen=True, kw_only=True)
class CondenseEstimate:
    """Prediction for the condense stage."""

    compile_s: float
    """Seconds until the slowest actor begins its first iteration."""
    iteration_s: float
    """Seconds of one iteration of the largest group, with all actors at work."""
    group_s: float
    """Seconds of all iterations of the largest group."""
    total_s: float
    """Seconds of the stage."""
    actors: int
    groups: int
    actor_bytes: float
    """Peak memory (or GPU memory) of an actor."""
    device: str
    """Name of the GPU, or CPU."""
    execution: Execution

    @property
    def device_hours(self) -> float:
        """Hours that actors are at work, summed over actors."""
        return self.group_s * self.groups / 3600

    def hours_on(self, devices: int) -> float:
        """Hours of the stage on ``devices`` devices like this one, with classes spread evenly."""
        return self.device_hours / devices


@dataclass(frozen=True, kw_only=True)
class EvaluateEstimate:
    """Prediction for the evaluate stage."""

    network_s: float
    """Seconds of training and scoring one network: the mean over architectures and sets."""
    networks: int
    total_s: float
    """Seconds of the stage, compiling included."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Prediction for a run."""

    start_s: float
    """Seconds until Ray and the processes of every stage have started."""
    prepare_s: float
    """Seconds of the prepare stage."""
    condense: CondenseEstimate
    evaluate: EvaluateEstimate
    disk_bytes: float
    """Bytes of class shards, checkpoints and condensed set."""

    @property
    def total_s(self) -> float:
        """Seconds of the run, stage after stage."""
        return self.start_s + self.prepare_s + self.condense.total_s + self.evaluate.total_s


def estimate(config: RunConfig) -> Estimate:
    """Calibrates on the cluster and predicts what a run of the configuration will take.

    Raises:
        UserError: the settings, the source or the cluster do not allow ``prepare`` or ``condense``.
    """
    began = time.monotonic()
    session.start(config.resources)
    ray_s = time.monotonic() - began
    with tempfile.TemporaryDirectory() as folder:
        shards = plan_shards(absolute_path(config.data), folder)
    placement = nodes.placement(config, len(shards.names))
    say("plan: calibrating (about a minute; longer the first time the encoder is compiled)")
    with Display("plan", _measurements(config)) as display:
        process_s, condensing = _estimate_condense(config, shards, placement, display)
        evaluating = _estimate_evaluate(config, shards, display)
    cores = int(sum(node.cpus for node in nodes.nodes())) or 1
    return Estimate(
        start_s=ray_s + 3 * process_s,
        prepare_s=_images(shards) / decode_rate(config, shards, cores),
        condense=condensing,
        evaluate=evaluating,
        disk_bytes=_disk_bytes(config, shards),
    )


def described(expected: Estimate, devices: int | None) -> Table:
    """Returns the estimate as a table for the terminal.

    Args:
        expected: the estimate.
        devices: number of devices for which to predict the condense stage as well; None adds no such line.
    """
    condense, evaluate = expected.condense, expected.evaluate
    compiled = "compiled" if condense.execution.compiled else "eager"
    kind = "GPU" if condense.device != "CPU" else "actor"
    rows = [
        ("device", f"{condense.device}, {condense.execution.precision}, {compiled}"),
        ("start-up", f"{expected.start_s:.0f} s"),
        ("prepare", clock(expected.prepare_s)),
        ("condense", f"{clock(condense.total_s)}: {condense.groups} groups on {condense.actors} actors"),
        ("  iteration", f"{condense.iteration_s:.3f} s per group"),
        ("  group", clock(condense.group_s)),
        ("  compiling", f"{condense.compile_s:.0f} s"),
        ("evaluate", f"{clock(evaluate.total_s)}: {evaluate.networks} networks, {evaluate.network_s:.0f} s each"),
        ("total", clock(expected.total_s)),
        ("memory per actor", f"{condense.actor_bytes / 2**30:.1f} GiB"),
        ("disk", f"{expected.disk_bytes / 2**20:.0f} MiB"),
        (f"{kind}-hours of condense", f"{condense.device_hours:.2f}"),
    ]
    if devices is not None:
        rows.append((f"condense on {devices} {kind}s", clock(3600 * condense.hours_on(devices))))
    table = Table(title="expected", title_justify="left", show_header=False)
    for name, value in rows:
        table.add_row(name, value)
    return table


def _measurements(config: RunConfig) -> int:
    """Number of measurements: two of condensing, and two of every architecture and number of training images."""
    per_class = {_training_images(name, config) for name in set_names(config)}
    return 2 + 2 * len(config.evaluate.architectures) * len(per_class)


def _estimate_condense(
    config: RunConfig, shards: ShardPlan, placement: Placement, display: Display
) -> tuple[float, CondenseEstimate]:
    """Returns the seconds in which a process starts, and the prediction for the stage.

    Two rounds are as wide as the run will be: the first starts processes and compiles, the second is timed.
    """
    cpus, gpus = placement.cpus_per_actor, placement.gpus_per_actor
    at_once = max(1, min(placement.actors, capacity(cpus, gpus, nodes.nodes())))
    task = CondenseTask(
        config=config,
        shards=shards,
        group=max(placement.groups, key=len),
        threads=placement.threads,
        share_of_actor=-(-len(shards.names) // placement.actors),
    )
    task_processes.end_idle()  # how long a process takes to start is measured, too
    with TaskPool("plan", Slots(count=at_once, cpus=cpus, gpus=gpus, spread=True), config.resources) as pool:

        def measured(seconds: float) -> list[CondenseSpeed]:
            calls = [partial(measure_condense, task, seconds, time.time())] * at_once
            what = f"condensing: {'timing iterations' if seconds else 'starting processes and compiling'}"
            return [speed for _, speed in _shown(display, what, pool, calls)]

        first, timed = measured(0), measured(CALIBRATION_S)
    slowest = max(timed, key=lambda speed: speed.iteration_s)
    group_s = slowest.iteration_s * config.condense.iterations
    compile_s = max(speed.compile_s for speed in first)
    rounds = -(-len(placement.groups) // placement.actors)
    return max(speed.process_s for speed in first), CondenseEstimate(
        compile_s=compile_s,
        iteration_s=slowest.iteration_s,
        group_s=group_s,
        total_s=compile_s + rounds * group_s,
        actors=placement.actors,
        groups=len(placement.groups),
        actor_bytes=max(speed.peak_bytes for speed in timed),
        device=slowest.device,
        execution=slowest.execution,
    )


def _shown(display: Display, what: str, pool: TaskPool, calls: Sequence[Call]) -> Iterator[tuple[int, Any]]:
    """Yields the results of one measurement, and shows it."""

    def show() -> None:
        display.update(display.done, what)

    yield from pool.results(calls, on_tick=show)
    display.update(display.done + 1, what)


def _estimate_evaluate(config: RunConfig, shards: ShardPlan, display: Display) -> EvaluateEstimate:
    """Measures every architecture with every number of training images twice: compiling, then timed."""
    architectures, names = config.evaluate.architectures, set_names(config)
    networks = len(architectures) * len(names) * config.evaluate.seeds
    shares = share(networks, config)
    at_once = min(shares.slots, networks)
    slots = Slots(count=at_once, cpus=shares.threads, gpus=shares.gpus)
    seconds, compile_s = [], 0.0
    with TaskPool("plan", slots, config.resources) as pool:

        def measured(task: EvaluateTask) -> list[EvaluateSpeed]:
            calls = [partial(measure_evaluate, task)] * at_once
            return [speed for _, speed in _shown(display, f"training {task.architecture}", pool, calls)]

        for architecture in architectures:
            for per_class in sorted({_training_images(name, config) for name in names}):
                task = EvaluateTask(
                    config=config,
                    shards=shards,
                    architecture=architecture,
                    per_class=per_class,
                    threads=shares.threads,
                    networks=-(-networks // shares.slots),
                )
                first, timed = measured(task), measured(task)
                compile_s += max(speed.warm_up_s for speed in first) - max(speed.warm_up_s for speed in timed)
                sets = sum(_training_images(name, config) == per_class for name in names)
                seconds += [max(speed.network_s for speed in timed)] * sets
    network_s = sum(seconds) / len(seconds)
    total_s = max(0.0, compile_s) + -(-networks // at_once) * network_s
    return EvaluateEstimate(network_s=network_s, networks=networks, total_s=total_s)


def _training_images(name: str, config: RunConfig) -> int:
    """Training images per class of a set."""
    stored = config.condense.images_per_class
    return stored * config.condense.factor**2 if name in ("condensed", "mosaic") else stored


def _images(shards: ShardPlan) -> int:
    """Images of all classes and splits."""
    return sum(sum(counts) for counts in shards.counts.values())


def _disk_bytes(config: RunConfig, shards: ShardPlan) -> float:
    image_pixels = shards.channels * config.data.image_size**2
    condensed_pixels = len(shards.names) * config.condense.images_per_class * image_pixels
    # A class shard has a byte per pixel. A checkpoint has pixels and momentum in float32, and exists twice while it is replaced.
    return _images(shards) * image_pixels + condensed_pixels * (1 + 2 * 2 * 4)
