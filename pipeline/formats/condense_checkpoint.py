"""A checkpoint of a group: the state of its pixels on the CPU."""

import torch

from m3d import CondenseState


def snapshot(state: CondenseState) -> CondenseState:
    """A copy on the CPU, to be written while the original moves on."""
    return CondenseState(
        pixels_KSCHW=state.pixels_KSCHW.detach().to("cpu", copy=True).contiguous(),
        momentum_KSCHW=state.momentum_KSCHW.detach().to("cpu", copy=True).contiguous(),
        iteration=state.iteration,
        broken_K=state.broken_K.to("cpu", copy=True),
    )


def placed(state: CondenseState, device: torch.device) -> CondenseState:
    """The state on a device."""
    return CondenseState(
        pixels_KSCHW=state.pixels_KSCHW.to(device),
        momentum_KSCHW=state.momentum_KSCHW.to(device),
        iteration=state.iteration,
        broken_K=state.broken_K.to(device),
    )
