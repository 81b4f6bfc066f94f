"""Precision of the encoder: which one ``auto`` means, and how it is switched on."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import torch

from m3d.config import PRECISIONS, ConfigError

CPU_INFO = Path("/proc/cpuinfo")


def resolve(precision: str, device: torch.device) -> str:
    """The requested precision, or for ``auto`` one that the hardware has units for: float32, tf32 or bfloat16.

    On a GPU, ``auto`` is bfloat16 from compute capability 8.0 up, on a CPU with AMX, otherwise float32. (With
    AVX512-BF16 alone the step is 1.2 to 1.4 times slower in bfloat16 than in float32.) The choice follows from the
    hardware, never from a timing. On a CPU, tf32 is float32.

    Raises:
        ConfigError: an unknown precision.
    """
    if precision not in PRECISIONS:
        raise ConfigError(f"given {precision!r}, allowed: {', '.join(PRECISIONS)}", field="precision")
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.get_device_capability(device)[0] >= 8 else "float32"
    return "bfloat16" if cpu_has_amx() else "float32"


def cpu_has_amx() -> bool:
    """Whether this machine's CPU multiplies tiles of bfloat16; False if that is unknown."""
    try:
        text = CPU_INFO.read_text()
    except OSError:
        return False
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "").split()
    return "amx_bf16" in flags


def encoding(precision: str, device: torch.device) -> torch.autocast:
    """A context in which forward passes run in ``precision`` (resolved); backward passes follow by themselves."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16")


@contextlib.contextmanager
def convolutions(precision: str, device: torch.device) -> Iterator[None]:
    """A context in which a GPU's convolutions use TF32 if ``precision`` is tf32, and otherwise do not.

    Use it around the forward *and* the backward pass, since cuDNN reads the switch when it runs. Matrix products do not
    change: those of the kernels stay in float32.
    """
    if device.type != "cuda":
        yield
        return
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before
