"""Weights and momentum of a training, as tensors by name that a file can store."""

from collections.abc import Mapping

import torch
from torch import Tensor

from m3d.encoders import Network


def snapshot(network: Network, optimiser: torch.optim.Optimizer, *, weights: str) -> dict[str, Tensor]:
    """Copies on the CPU of all weights (``WEIGHTS.NAME``) and of their momentum (``momentum.NAME``), if there is any.

    Args:
        network: in training.
        optimiser: of its parameters.
        weights: prefix of the weights' names. Files of the two kinds of training differ in it.
    """
    tensors = {f"{weights}.{name}": value for name, value in network.state_dict().items()}
    for name, parameter in network.named_parameters():
        momentum = optimiser.state.get(parameter, {}).get("momentum_buffer")
        if momentum is not None:
            tensors[f"momentum.{name}"] = momentum
    return {name: value.detach().to("cpu", copy=True).contiguous() for name, value in tensors.items()}


def restore(network: Network, optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor], *, weights: str) -> None:
    """Puts the contents of a ``snapshot`` into a network and its optimiser, in place. Arguments as for ``snapshot``."""
    network.load_state_dict(weights_of(tensors, weights=weights))
    for name, parameter in network.named_parameters():
        if f"momentum.{name}" in tensors:
            momentum = tensors[f"momentum.{name}"].to(parameter.device, copy=True)
            optimiser.state[parameter]["momentum_buffer"] = momentum.view_as(parameter)


def weights_of(tensors: Mapping[str, Tensor], *, weights: str = "weights") -> dict[str, Tensor]:
    """The weights of a ``snapshot`` alone, by the network's own names."""
    prefix = f"{weights}."
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
