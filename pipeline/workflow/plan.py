"""What a run will take, before it runs: a short calibration on the cluster's own hardware, and arithmetic."""

import tempfile
import time
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from pipeline.config.run_config import RunConfig
from pipeline.data.prepare import absolute_path
from pipeline.data.shard_plan import ShardPlan, plan_shards
from pipeline.evaluate.rows import set_names
from pipeline.evaluate.scoring import share
from pipeline.observability.progress import clock, say
from pipeline.runtime import nodes, session
from pipeline.runtime.placement import Placement, capacity
from pipeline.runtime.tasks import results
from pipeline.workflow.calibration import CALIBRATION_S, condense_speed, decode_rate, evaluate_speed


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Seconds, bytes and counts that are expected of a run."""

    start_s: float
    """Of Ray and of the processes of every stage."""
    compile_s: float
    prepare_s: float
    iteration_s: float
    """Of a group, all actors at work."""
    group_s: float
    condense_s: float
    network_s: float
    """One network of the evaluation: training and scoring; the mean over architectures and sets."""
    networks: int
    evaluate_s: float
    actors: int
    groups: int
    actor_bytes: float
    """Of memory (or GPU memory) that an actor takes at its highest."""
    disk_bytes: float
    device: str
    execution: dict[str, Any]

    @property
    def total_s(self) -> float:
        """The whole run, stage after stage."""
        return self.start_s + self.prepare_s + self.condense_s + self.evaluate_s

    @property
    def device_hours(self) -> float:
        """Hours of actors that the condensation takes."""
        return self.group_s * self.groups / 3600

    def hours_on(self, devices: int) -> float:
        """Hours of the condensation on so many devices like this one, classes spread over them evenly."""
        return self.device_hours / devices


def estimate(config: RunConfig) -> Estimate:
    """Calibrates on the cluster and predicts.

    Raises:
        UserError: what ``prepare`` and ``condense`` would say of the settings, the source and the cluster.
    """
    began = time.monotonic()
    session.start(config.resources)
    ray_s = time.monotonic() - began
    with tempfile.TemporaryDirectory() as folder:
        shards = plan_shards(absolute_path(config.data), folder)
    placement = nodes.placement(config, len(shards.names))
    say("plan: calibrating (a minute; longer where the encoder is compiled for the first time)")
    first, condensing = _condensing(config, shards, placement)
    slowest = max(condensing, key=lambda one: one["iteration_s"])
    group_s = slowest["iteration_s"] * config.condense.iterations
    rounds = -(-len(placement.groups) // placement.actors)
    compile_s = max(one["compile_s"] for one in first)
    network_s, networks, at_once, score_compile_s = _evaluating(config, shards)
    images = sum(sum(held) for held in shards.counts.values())
    process_s = max(one["process_s"] for one in first)
    return Estimate(
        start_s=ray_s + 3 * process_s,
        compile_s=compile_s,
        prepare_s=images / decode_rate(config, shards, int(sum(node.cpus for node in nodes.nodes())) or 1),
        iteration_s=slowest["iteration_s"],
        group_s=group_s,
        condense_s=compile_s + rounds * group_s,
        network_s=network_s,
        networks=networks,
        evaluate_s=score_compile_s + -(-networks // at_once) * network_s,
        actors=placement.actors,
        groups=len(placement.groups),
        actor_bytes=max(one["bytes"] for one in condensing),
        disk_bytes=_disk(config, shards),
        device=slowest["device"],
        execution=slowest["execution"],
    )


def described(made: Estimate, devices: int | None) -> Table:
    """The estimate as a person reads it."""
    table = Table(title="expected", title_justify="left", show_header=False)
    compiled = "compiled" if made.execution["compiled"] else "eager"
    kind = "GPU" if made.device != "CPU" else "actor"
    rows = [
        ("device", f"{made.device}, {made.execution['precision']}, {compiled}"),
        ("start-up", f"{made.start_s:.0f} s"),
        ("prepare", clock(made.prepare_s)),
        ("condense", f"{clock(made.condense_s)}: {made.groups} groups on {made.actors} actors"),
        ("  an iteration", f"{made.iteration_s:.3f} s of a group"),
        ("  a group", clock(made.group_s)),
        ("  compiling", f"{made.compile_s:.0f} s"),
        ("evaluate", f"{clock(made.evaluate_s)}: {made.networks} networks of {made.network_s:.0f} s"),
        ("in all", clock(made.total_s)),
        ("memory of an actor", f"{made.actor_bytes / 2**30:.1f} GiB"),
        ("disk", f"{made.disk_bytes / 2**20:.0f} MiB"),
        (f"{kind}-hours of condense", f"{made.device_hours:.2f}"),
    ]
    if devices is not None:
        rows.append((f"condense on {devices} {kind}s", clock(3600 * made.hours_on(devices))))
    for name, value in rows:
        table.add_row(name, value)
    return table


def _condensing(
    config: RunConfig, shards: ShardPlan, placement: Placement
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Two rounds as wide as the run will be: the first starts processes and compiles, the second is timed."""
    at_once = max(1, min(placement.actors, capacity(placement.cpus_per_actor, placement.gpus_per_actor, nodes.nodes())))
    task = condense_speed.options(
        num_cpus=placement.cpus_per_actor, num_gpus=placement.gpus_per_actor, scheduling_strategy="SPREAD"
    )
    group = max(placement.groups, key=len)
    share_of_actor = -(-len(shards.names) // placement.actors)

    def round_of(seconds: float) -> list[dict[str, Any]]:
        began = time.time()
        calls = [
            lambda: task.remote(config, shards, group, placement.threads, share_of_actor, seconds, began)
        ] * at_once
        return [made for _, made in results(calls, at_once, "plan")]

    return round_of(0), round_of(CALIBRATION_S)


def _evaluating(config: RunConfig, shards: ShardPlan) -> tuple[float, int, int, float]:
    """Mean seconds of a network, how many networks, how many at a time, and seconds to compile."""
    kinds = [(name, architecture) for architecture in config.evaluate.architectures for name in set_names(config)]
    networks = len(kinds) * config.evaluate.seeds
    shares = share(networks, config)
    threads, gpus, slots = shares.threads, shares.gpus, shares.slots
    task = evaluate_speed.options(num_cpus=threads, num_gpus=gpus)
    at_once = min(slots, networks)
    seconds, compile_s = [], 0.0
    for architecture in config.evaluate.architectures:
        for views in sorted({_images(name, config) for name in set_names(config)}):
            calls = [
                lambda a=architecture, v=views: task.remote(config, shards, a, v, threads, -(-networks // slots))
            ] * at_once
            rounds = [[one for _, one in results(calls, at_once, "plan")] for _ in range(2)]
            first, made = rounds
            compile_s += max(warm for _, warm in first) - max(warm for _, warm in made)  # the second finds it compiled
            weight = sum(_images(name, config) == views for name in set_names(config))
            seconds += [max(network for network, _ in made)] * weight
    return sum(seconds) / len(seconds), networks, at_once, max(0.0, compile_s)


def _images(name: str, config: RunConfig) -> int:
    stored = config.condense.images_per_class
    return stored * config.condense.factor**2 if name in ("condensed", "mosaic") else stored


def _disk(config: RunConfig, shards: ShardPlan) -> float:
    pixels_of_image = shards.channels * config.data.image_size**2
    images = sum(sum(held) for held in shards.counts.values())
    stored = len(shards.names) * config.condense.images_per_class * pixels_of_image
    # Class shards hold a byte a pixel; a checkpoint holds pixels and momentum in float32, two of it while one is replaced.
    return images * pixels_of_image + stored * (1 + 2 * 2 * 4)
