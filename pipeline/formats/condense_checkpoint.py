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
        return CondenseState(
            pixels_KSCHW=file.tensors["pixels"],
            momentum_KSCHW=file.tensors["momentum"],
            iteration=int(file.metadata["iteration"]),
            broken_K=file.tensors["broken"],
        )
    except (KeyError, ValueError):
        return None  # a damaged file is ignored and its work is repeated


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
