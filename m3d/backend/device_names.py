"""Names of devices."""

import os
import platform
from pathlib import Path

import torch


def device_name(device: torch.device) -> str:
    """The model of a GPU; the number of cores and the model of a CPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{os.cpu_count()} CPU cores, {_processor()}"


def short_device_name(device: torch.device) -> str:
    """The model of a GPU, or ``CPU``."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
