"""A checkpoint of a condensation: pixels, momentum and iteration of a group of classes, in one file of tensors."""

import torch

from m3d import CondenseState
from pipeline.storage.tensors import read_tensors, write_tensors


def write_checkpoint(path: str, state: CondenseState, identity: str) -> None:
    """Writes a state, visible at once. Its tensors must be on the CPU and no longer change.

    Args:
        path: local path or URL.
        state: a copy made by ``snapshot``.
        identity: checksum of everything that the pixels depend on.
    """
    tensors = {"pixels": state.pixels_KSCHW, "momentum": state.momentum_KSCHW, "broken": state.broken_K}
    metadata = {"iteration": str(state.iteration), "identity": identity}
    write_tensors(path, tensors, metadata, checked="iteration")


def read_checkpoint(path: str, identity: str) -> CondenseState | None:
    """Returns the state in a file, on the CPU, or None if there is no state of this identity or the file is damaged."""
    file = read_tensors(path, checked="iteration")
    if file is None or file.metadata.get("identity") != identity:
        return None
    try:
        pixels, momentum, broken = (file.tensors[name] for name in ("pixels", "momentum", "broken"))
        iteration = int(file.metadata["iteration"])
    except (KeyError, ValueError):
        return None  # a damaged file is ignored and its work is repeated
    fits = pixels.ndim == 5 and pixels.shape == momentum.shape and pixels.dtype == momentum.dtype == torch.float32
    if not fits or broken.shape != pixels.shape[:1] or broken.is_floating_point() or iteration < 0:
        return None
    return CondenseState(pixels_KSCHW=pixels, momentum_KSCHW=momentum, iteration=iteration, broken_K=broken)


def snapshot(state: CondenseState) -> CondenseState:
    """Returns a copy on the CPU, to be written while the original changes."""
    return CondenseState(
        pixels_KSCHW=state.pixels_KSCHW.detach().to("cpu", copy=True).contiguous(),
        momentum_KSCHW=state.momentum_KSCHW.detach().to("cpu", copy=True).contiguous(),
        iteration=state.iteration,
        broken_K=state.broken_K.to("cpu", copy=True),
    )


def placed(state: CondenseState, device: torch.device) -> CondenseState:
    """Returns the state on a device."""
    return CondenseState(
        pixels_KSCHW=state.pixels_KSCHW.to(device),
        momentum_KSCHW=state.momentum_KSCHW.to(device),
        iteration=state.iteration,
        broken_K=state.broken_K.to(device),
    )
