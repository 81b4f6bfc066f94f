"""How fast the cluster computes: timed for a second or two, for the rough estimates that commands begin with.

``plan`` measures better, and takes a minute for it.
"""

import os
import time
from dataclasses import dataclass
from functools import lru_cache, partial

import torch

from m3d.backend.cost import forward_flops
from m3d.config import ConfigError, Encoder
from m3d.encoders import Network, build
from pipeline.config.run_config import Resources
from pipeline.errors import FailedError, UserError
from pipeline.observability.progress import about
from pipeline.runtime import nodes
from pipeline.runtime.devices import assigned_device
from pipeline.runtime.task_pool import Slots, result

CPU = torch.device("cpu")
TIMED_S = 1.0
"""Seconds of timed passes."""
IMAGES = 32
"""Images of a pass."""
LARGEST = 2**31
"""Most operations of one timed pass on a CPU, so that a slow machine is not timed for minutes."""
SHORT_S = 60.0
"""An amount of work that takes less than this on a slow core is not worth timing."""
SLOW_CORE = 1e10
"""Operations per second of a slow core."""


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Rate at which a cluster computes passes of a network."""

    flops: float
    """Operations per second of all devices together."""
    devices: int
    device: str
    """CPUs or GPUs."""


def time_of(work: float, encoder: Encoder, shape: tuple[int, int], resources: Resources) -> tuple[float | None, str]:
    """Returns roughly how many seconds some work takes on the cluster, or None if nobody knows, and the same in words.

    Args:
        work: operations of networks like the encoder.
        encoder: of the run.
        shape: channels and side of the images.
        resources: of the run.
    """
    if work / SLOW_CORE < SHORT_S:
        return work / SLOW_CORE, "less than a minute"
    speed = cluster_speed(encoder, *shape, resources)
    if speed is None:
        return None, "an unknown time"
    seconds = work / speed.flops
    return seconds, f"roughly {about(seconds)} on {speed.devices} {speed.device}"


@lru_cache(maxsize=8)
def cluster_speed(encoder: Encoder, channels: int, size: int, resources: Resources) -> Speed | None:
    """Times passes of a network on one device, and counts the devices. Ray must have been started.

    Args:
        encoder: of the run.
        channels: of the images.
        size: side of the images in pixels.
        resources: of the run.

    Returns:
        The speed, or None if it could not be measured: an estimate is no reason to fail.
    """
    known = nodes.nodes()
    gpus = 0.0 if resources.gpus_per_actor == 0 else sum(node.gpus for node in known)
    if max(node.cpus for node in known) < 1 or nodes.autoscales():
        return None
    joins = (resources.address or os.environ.get("RAY_ADDRESS") or "local") != "local"
    is_here = not gpus and len(known) == 1 and not joins
    # A task no larger than an actor of the run: a larger one would wait for places that the run does not need.
    slots = Slots(cpus=1, gpus=min(1.0, gpus, resources.gpus_per_actor or 1.0))
    try:
        if is_here:
            once = measured_flops(encoder, channels, size)
        else:
            call = partial(_assigned_flops, encoder, channels, size)
            once = result("estimate", call, slots, resources)
    except (UserError, FailedError, ConfigError):
        return None
    if gpus:
        return Speed(flops=once * gpus, devices=int(gpus), device="GPUs")
    total = max(1, int(sum(node.cpus for node in known)))
    return Speed(flops=once * total, devices=total, device="CPUs")


def _assigned_flops(encoder: Encoder, channels: int, size: int) -> float:
    """``measured_flops`` on the device that Ray assigned to this task."""
    return measured_flops(encoder, channels, size, assigned_device())


def measured_flops(encoder: Encoder, channels: int, size: int, device: torch.device = CPU) -> float:
    """Returns the operations per second of forward and backward passes on one CPU core or one GPU.

    Actors have a core each. Several threads of one pass would wait for each other on a busy machine, and be timed as slow.
    """
    before = torch.get_num_threads()
    flops = forward_flops(encoder, channels, size)
    count = IMAGES if device.type == "cuda" else max(1, min(IMAGES, LARGEST // flops))
    torch.set_num_threads(1)
    try:
        network = build(
            encoder.name,
            channels=channels,
            image_size=size,
            classes=1,
            generator=torch.Generator().manual_seed(0),
            width=encoder.width,
            device=device,
        ).requires_grad_(False)
        images = torch.rand(count, channels, size, size, device=device, requires_grad=True)
        _pass(network, images)
        passes, began = 0, time.perf_counter()
        while passes == 0 or time.perf_counter() - began < TIMED_S:
            _pass(network, images)
            passes += 1
        return 2 * flops * count * passes / (time.perf_counter() - began)
    finally:
        torch.set_num_threads(before)


def _pass(network: Network, images: torch.Tensor) -> None:
    with torch.enable_grad():
        loss = network.features(images).square().mean()
        (gradient,) = torch.autograd.grad(loss, images)
    gradient.flatten()[0].item()  # waits for the device
