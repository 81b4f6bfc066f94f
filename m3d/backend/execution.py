"""How a condensation is computed: precision, compiler and block sizes.

All of them can change the last bits of a result. They therefore follow from the settings, the hardware and the total
work, never from a timing or from the memory that is free at the moment. A run stores them and reuses them when resumed.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypedDict, TypeVar

import torch

from m3d.backend import compiler
from m3d.backend.cost import forward_flops, kept_numbers
from m3d.backend.precision import resolve
from m3d.config import CompilerError, ConfigError, Encoder, Method

T = TypeVar("T")

COMPILE_PAYS_S = 120.0
"""Seconds of eager work above which compiling is worth its 20 to 40 seconds."""
EAGER_FLOPS_PER_THREAD = 1e11
"""Operations per second of one CPU thread without a compiler, measured with ConvNet-3 at 32 px."""
EAGER_FLOPS_GPU = 1e13
"""The same for a GPU, on which small networks are bound by kernel launches."""
CPU_REAL_PIXELS = 2**16
"""Pixels of real images per pass on a CPU, compiled: best or second best at 16, 32, 64 and 128 px with 2 MiB of L2 per core."""
CPU_SYNTHETIC_PIXELS = 40 * 2**10
"""The same for views, whose activations are kept for the backward pass: best at 32 and 64 px."""
CPU_LEAST = 4
"""Smallest number of images per pass on a CPU, compiled: best for views of 128 px. Above 128 px the smallest number of
views is half of it: best at 224 px."""
CPU_EAGER_PIXELS = 2**14
"""Pixels of real images or views per pass on a CPU without a compiler: best at 32 px, second best at 16 and 128 px."""
GPU_REAL_PIXELS = 2**24 - 1
"""Pixels of images per pass on a GPU: 334 images of 224 px, whose 128 channels have fewer than 2**31 numbers."""
GPU_SHARE = 0.5
"""Fraction of a GPU's memory for the activations that are kept of one block."""


class ExecutionValues(TypedDict):
    """An ``Execution`` in a document."""

    precision: str
    compiled: bool
    real_block: int
    synthetic_block: int


@dataclass(frozen=True, kw_only=True)
class Execution:
    """How the step is computed."""

    precision: str
    """float32, tf32 or bfloat16."""
    compiled: bool
    """Whether the encoder's passes are compiled."""
    real_block: int
    """Real images per pass of the encoder."""
    synthetic_block: int
    """Views per pass of the encoder, forward and backward."""
    note: str = field(default="", compare=False)
    """Message for the user, such as why there is no compiler; not stored and not compared."""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Execution":
        """The inverse of ``as_dict``; other keys are ignored."""
        return cls(**{key: values[key] for key in ExecutionValues.__annotations__})

    def as_dict(self) -> "ExecutionValues":
        """Plain values for a document, without the note."""
        return ExecutionValues(
            precision=self.precision,
            compiled=self.compiled,
            real_block=self.real_block,
            synthetic_block=self.synthetic_block,
        )

    def halved(self) -> "Execution":
        """The same with blocks of half the size, for use after running out of memory.

        Raises:
            ConfigError: the blocks have one image already.
        """
        if self.synthetic_block == self.real_block == 1:
            raise ConfigError("one image at a time is too much for this device's memory", field="condense.block")
        return replace(self, real_block=max(1, self.real_block // 2), synthetic_block=max(1, self.synthetic_block // 2))


def choose(
    method: Method,
    *,
    shape: tuple[int, int, int],
    classes: int,
    device: torch.device,
    threads: int | None = None,
    memory: float | None = None,
) -> Execution:
    """What the settings request. Settings that are ``auto`` follow from the hardware and the amount of work.

    Args:
        method: settings.
        shape: channels, height, width of the images.
        classes: number of classes that the device condenses in the complete run, one group after another.
        device: where the condensation runs.
        threads: of torch on a CPU. Defaults to torch's current number.
        memory: usable bytes of the GPU. Defaults to all.

    Raises:
        CompilerError: condense.compile is on, but this machine cannot compile.
    """
    condense, encoder = method.condense, method.encoder
    precision = resolve(condense.precision, device)
    work = classes * condense.iterations * flops_per_class(method, shape)
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


def flops_per_class(method: Method, shape: tuple[int, int, int]) -> int:
    """Operations per class and iteration: the real images forward, the views forward and back to the pixels."""
    channels, height, _ = shape
    passes = method.condense.batch_real + 2 * method.condense.views
    return passes * forward_flops(method.encoder, channels, height)


def compiles(
    wanted: str, flops: int, device: torch.device, threads: int | None = None, *, key: str
) -> tuple[bool, str]:
    """Whether to compile, and a note if compiling would pay but there is no compiler.

    Args:
        wanted: auto, on or off.
        flops: operations of all compiled code in this process.
        device: where it runs.
        threads: of torch on a CPU. Defaults to torch's current number.
        key: name of the setting, for the message.

    Raises:
        CompilerError: ``wanted`` is on, but this machine cannot compile.
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
    """The result of ``run(compiled)``: compiled if it pays, and again without the compiler if compiling fails.

    Args:
        run: does the work, compiled or not.
        wanted: auto, on or off.
        flops: as for ``compiles``, like ``device``, ``threads`` and ``key``.

    Raises:
        CompilerError: ``wanted`` is on, but this machine cannot compile or the compiler failed.
    """
    compiled, _ = compiles(wanted, flops, device, threads, key=key)
    try:
        return run(compiled)
    except Exception as error:
        if not compiled or not compiler.failed(error):
            raise
        if wanted == "on":
            text = f"the compiler failed ({compiler.reason(error)}); use {key}=off"
            raise CompilerError(text, field=key) from None
    return run(False)  # after the except block: until then the error keeps its frames, and with them a GPU's memory


def require_compiler(device: torch.device, key: str = "condense.compile") -> None:
    """Raises CompilerError with what is missing if this machine cannot compile."""
    lacking = compiler.missing(device)
    if lacking:
        text = f"needs a compiler, but this machine has no {lacking}; install it, or use {key}=off"
        raise CompilerError(text, field=key)


def training_flops(epochs: int, architecture: str, images: int, shape: tuple[int, int, int]) -> int:
    """Operations of training one network: three times the forward pass per image and epoch."""
    return 3 * epochs * images * forward_flops(Encoder(name=architecture), shape[0], shape[1])


def _cpu_blocks(shape: tuple[int, int, int], compiled: bool) -> tuple[int, int]:
    """Real images and views per pass."""
    pixels = shape[1] * shape[2]
    if not compiled:
        return max(1, CPU_EAGER_PIXELS // pixels), max(1, CPU_EAGER_PIXELS // pixels)
    least = CPU_LEAST if pixels <= 128**2 else CPU_LEAST // 2
    return max(CPU_LEAST, CPU_REAL_PIXELS // pixels), max(least, CPU_SYNTHETIC_PIXELS // pixels)


def _gpu_blocks(
    encoder: Encoder, shape: tuple[int, int, int], device: torch.device, memory: float | None
) -> tuple[int, int]:
    """Real images and views per pass."""
    channels, height, width = shape
    usable = memory or torch.cuda.get_device_properties(device).total_memory
    fitting = max(1, int(usable * GPU_SHARE / (kept_numbers(encoder, channels, height) * 4)))
    most = max(1, GPU_REAL_PIXELS // (height * width))
    # A forward pass alone keeps no activations, but its two largest may be most of what a backward pass keeps.
    return min(most, fitting), min(most, fitting)
