"""How a condensation is carried out: precision, compiler and block sizes.

All of it can change the last bits of a result, so it follows from the settings, the hardware and the total
work, never from a timing or from what is free at the moment; a run stores it and keeps it when it goes on.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TypeVar

import torch

from m3d.backend import compiler
from m3d.backend.cost import forward_flops, kept_numbers
from m3d.backend.precision import resolve
from m3d.config import CompilerError, Condense, ConfigError, Encoder, Train

T = TypeVar("T")

COMPILE_PAYS_S = 120.0
"""Seconds of eager work from which on compiling is worth its 20 to 40 seconds."""
EAGER_FLOPS_PER_THREAD = 1e11
"""What a thread of a CPU gets through in a second, eagerly: measured with ConvNet-3 at 32 px."""
EAGER_FLOPS_GPU = 1e13
"""The same for a GPU, where launches bound the small networks."""
CPU_REAL_PIXELS = 2**16
"""Pixels of real images that a CPU takes at once, compiled: best or next to it at 16, 32, 64 and 128 px with 2 MiB of L2 a core."""
CPU_SYNTHETIC_PIXELS = 40 * 2**10
"""The same for views, whose activations are kept for the way back: best at 32 and 64 px."""
CPU_LEAST = 4
"""Images of any size that a CPU takes at once, compiled; of views above 128 px half as many: best at 128 and 224 px."""
CPU_EAGER_PIXELS = 2**14
"""Pixels of images of either kind that a CPU takes at once without a compiler: best at 32 px, next to it at 16 and 128 px."""
GPU_REAL_PIXELS = 2**24 - 1
"""Pixels of real images that a GPU takes at once: 334 images of 224 px, so that 128 channels of them stay below 2**31 numbers."""
GPU_SHARE = 0.5
"""Part of a GPU's memory that the activations of one block may take, by the count of what is kept."""


@dataclass(frozen=True, kw_only=True)
class Execution:
    """How the step is computed."""

    precision: str
    """float32, tf32 or bfloat16."""
    compiled: bool
    """Whether the encoder's passes are compiled."""
    real_block: int
    """Real images that the encoder takes at once."""
    synthetic_block: int
    """Views that the encoder takes at once, forward and backward."""
    note: str = field(default="", compare=False)
    """What a person should know, such as why there is no compiler; no part of the choice."""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Execution":
        """Of plain values, as ``as_dict`` gives them."""
        return cls(**{key: values[key] for key in ("precision", "compiled", "real_block", "synthetic_block")})

    def as_dict(self) -> dict[str, Any]:
        """Plain values, without the note."""
        return {key: value for key, value in asdict(self).items() if key != "note"}

    def halved(self) -> "Execution":
        """With blocks half as large, after the memory has run out.

        Raises:
            ConfigError: they hold a single image already.
        """
        if self.synthetic_block == self.real_block == 1:
            raise ConfigError("condense.block: one image at a time is too much for this device's memory")
        return replace(self, real_block=max(1, self.real_block // 2), synthetic_block=max(1, self.synthetic_block // 2))


def choose(
    condense: Condense,
    encoder: Encoder,
    *,
    shape: tuple[int, int, int],
    classes: int,
    device: torch.device,
    threads: int | None = None,
    memory: float | None = None,
) -> Execution:
    """What the settings ask for, and where they leave it open, what suits the hardware and the amount of work.

    Args:
        condense, encoder: settings.
        shape: channels, height, width of the images.
        classes: that the device condenses in the whole run, one group after another.
        device: what it runs on.
        threads: of torch on a CPU; those in force when not given.
        memory: bytes of the GPU that may be used; all of it when not given.

    Raises:
        ConfigError: condense.compile=on on a machine that cannot compile.
    """
    precision = resolve(condense.precision, device)
    work = classes * condense.iterations * flops_per_class(condense, encoder, shape)
    compiled, note = compiles(condense.compile, work, device, threads, key="condense.compile")
    real, synthetic = (
        _cpu_blocks(shape, compiled) if device.type == "cpu" else _gpu_blocks(encoder, shape, device, memory)
    )
    return Execution(
        precision=precision,
        compiled=compiled,
        real_block=condense.block or real,
        synthetic_block=condense.block or synthetic,
        note=note,
    )


def flops_per_class(condense: Condense, encoder: Encoder, shape: tuple[int, int, int]) -> int:
    """Of one iteration: the real images forward, the views forward and back to the pixels."""
    channels, height, _ = shape
    return (condense.batch_real + 2 * condense.views) * forward_flops(encoder, channels, height)


def compiles(
    wanted: str, flops: int, device: torch.device, threads: int | None = None, *, key: str
) -> tuple[bool, str]:
    """Whether to compile, and a note where there is no compiler although it would pay.

    Args:
        wanted: auto, on or off.
        flops: of all that the compiled code would do in this process.
        device, threads: what it runs on.
        key: the setting, for the message.

    Raises:
        ConfigError: on, and this machine cannot compile.
    """
    if wanted == "on":
        require_compiler(device, key)
    if wanted != "auto":
        return wanted == "on", ""
    rate = EAGER_FLOPS_GPU if device.type == "cuda" else EAGER_FLOPS_PER_THREAD * (threads or torch.get_num_threads())
    if flops / rate < COMPILE_PAYS_S:
        return False, ""
    lacking = compiler.missing(device)
    return not lacking, f"not compiled, so several times slower: this machine has no {lacking}" if lacking else ""


def with_compiler(
    run: Callable[[bool], T], wanted: str, flops: int, device: torch.device, threads: int | None = None, *, key: str
) -> T:
    """``run(compiled)``: compiled where it pays, and once more without the compiler where that fails.

    Args:
        run: does the work, compiled or not.
        wanted, flops, device, threads, key: as for ``compiles``.

    Raises:
        CompilerError: on, and this machine cannot compile or the compiler failed.
    """
    compiled, _ = compiles(wanted, flops, device, threads, key=key)
    try:
        return run(compiled)
    except Exception as error:
        if not compiled or not compiler.failed(error):
            raise
        if wanted == "on":
            raise CompilerError(f"{key}: the compiler failed ({compiler.reason(error)}); use {key}=off") from None
    return run(False)  # only here, where the error no longer holds what it was raised in, and with it a GPU's memory


def require_compiler(device: torch.device, key: str = "condense.compile") -> None:
    """Raises ConfigError with what is missing where this machine cannot compile."""
    lacking = compiler.missing(device)
    if lacking:
        raise CompilerError(f"{key}: needs a compiler, but this machine has no {lacking}; install it, or use {key}=off")


def training_flops(config: Train, architecture: str, images: int, shape: tuple[int, int, int]) -> int:
    """Of training one network: three times the forward pass for every image and epoch."""
    return 3 * config.epochs * images * forward_flops(Encoder(name=architecture), shape[0], shape[1])


def _cpu_blocks(shape: tuple[int, int, int], compiled: bool) -> tuple[int, int]:
    """Real images and views at once."""
    pixels = shape[1] * shape[2]
    if not compiled:
        return max(1, CPU_EAGER_PIXELS // pixels), max(1, CPU_EAGER_PIXELS // pixels)
    least = CPU_LEAST if pixels <= 128**2 else CPU_LEAST // 2
    return max(CPU_LEAST, CPU_REAL_PIXELS // pixels), max(least, CPU_SYNTHETIC_PIXELS // pixels)


def _gpu_blocks(
    encoder: Encoder, shape: tuple[int, int, int], device: torch.device, memory: float | None
) -> tuple[int, int]:
    """Real images and views at once."""
    channels, height, width = shape
    held = memory or torch.cuda.get_device_properties(device).total_memory
    fitting = max(1, int(held * GPU_SHARE / (kept_numbers(encoder, channels, height) * 4)))
    most = max(1, GPU_REAL_PIXELS // (height * width))
    # A forward pass alone keeps nothing, but its two largest activations may be most of what is kept.
    return min(most, fitting), min(most, fitting)
