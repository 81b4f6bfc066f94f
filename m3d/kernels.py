"""Kernels on features, batched over classes, and the bandwidth of the Gaussian.

    K  classes    M, N  rows of the two sets    D  features

Every kernel is a function of two feature sets and the settings; ``KERNELS`` holds them by name.
"""

import difflib
from collections.abc import Callable

import torch
from torch import Tensor

from m3d.config import ConfigError, Kernel
from m3d.shapes import Float, ShapeError

LAPLACE_GAMMAS = (0.1, 1.0, 5.0)
"""Decay rates of the published "laplace" kernel, which uses squared distances and no bandwidth."""

KernelFunction = Callable[[Tensor, Tensor, Tensor, Kernel], Tensor]


def squared_distances(x_KMD: Float[Tensor, "K M D"], y_KND: Float[Tensor, "K N D"]) -> Float[Tensor, "K M N"]:
    """``|x_i - y_j|^2`` of every pair, at least 0, shape [K, M, N].

    Expanded as ``|x|^2 - 2 x y' + |y|^2``, whose gradient is finite everywhere (the one of a square root
    is not, at 0). Both sets are first moved by the mean of y, which changes no distance and keeps the
    subtraction from cancelling.
    """
    if x_KMD.shape[0] != y_KND.shape[0] or x_KMD.shape[-1] != y_KND.shape[-1]:
        raise ShapeError("y", tuple(y_KND.shape), f"[{x_KMD.shape[0]}, N, {x_KMD.shape[-1]}] to go with x")
    centre = y_KND.detach().mean(dim=1, keepdim=True)
    x, y = x_KMD - centre, y_KND - centre
    squared_x, squared_y = x.square().sum(-1), y.square().sum(-1)
    return (squared_x[:, :, None] + squared_y[:, None, :] - 2 * x @ y.mT).clamp_min(0)


def bandwidths(
    syn_KMD: Float[Tensor, "K M D"], real_KND: Float[Tensor, "K N D"], config: Kernel
) -> Float[Tensor, " K"]:
    """The squared bandwidth b of every class, detached, times the multiplier.

    mean: the mean squared distance between different rows of the stacked batch,
    ``sum_ij |z_i - z_j|^2 / (n^2 - n) = (2 n sum |z|^2 - 2 |sum z|^2) / (n^2 - n)``, without any pair.
    median: the median of the same distances. fixed: ``bandwidth_value``.

    Source: M3D's bandwidth is "mean"; the closed form is algebra.
    """
    z_KTD = torch.cat([syn_KMD.detach(), real_KND.detach()], dim=1)
    rows = z_KTD.shape[1]
    if config.bandwidth == "fixed":
        assert config.bandwidth_value is not None  # Kernel checks it
        b_K = z_KTD.new_full((z_KTD.shape[0],), config.bandwidth_value)
    elif config.bandwidth == "median":
        d2_KTT = squared_distances(z_KTD, z_KTD)
        above = torch.triu_indices(rows, rows, offset=1, device=z_KTD.device)
        b_K = d2_KTT[:, above[0], above[1]].median(dim=1).values
    else:
        z = z_KTD - z_KTD.mean(dim=1, keepdim=True)  # then |sum z|^2 is 0 but for rounding
        total = 2 * rows * z.square().sum((1, 2)) - 2 * z.sum(1).square().sum(1)
        b_K = total / (rows**2 - rows)
    tiny = torch.finfo(b_K.dtype).tiny
    return (b_K * config.bandwidth_multiplier).clamp_min(tiny * 1e6)  # equal features: no division by 0


def gaussian(x_KMD: Tensor, y_KND: Tensor, bandwidth_K: Tensor, config: Kernel) -> Tensor:
    """Sum over the bank: ``sum_s exp(-|x - y|^2 / (b s))``, s = scale_factor**(i - scales // 2)."""
    d2 = squared_distances(x_KMD, y_KND) / bandwidth_K[:, None, None]
    gram = torch.zeros_like(d2)
    for i in range(config.scales):
        gram = gram + torch.exp(-d2 / config.scale_factor ** (i - config.scales // 2))
    return gram


def linear(x_KMD: Tensor, y_KND: Tensor, bandwidth_K: Tensor, config: Kernel) -> Tensor:
    """``x . y``: the MMD is then the distance of the means, which is DM's objective."""
    return x_KMD @ y_KND.mT


def polynomial(x_KMD: Tensor, y_KND: Tensor, bandwidth_K: Tensor, config: Kernel) -> Tensor:
    """``(x . y + 1)^2``."""
    return (x_KMD @ y_KND.mT + 1).square()


def laplace(x_KMD: Tensor, y_KND: Tensor, bandwidth_K: Tensor, config: Kernel) -> Tensor:
    """The published "laplace": ``sum over gamma in {0.1, 1, 5} of exp(-gamma |x - y|^2)``."""
    d2 = squared_distances(x_KMD, y_KND)
    gram = torch.zeros_like(d2)
    for gamma in LAPLACE_GAMMAS:
        gram = gram + torch.exp(-gamma * d2)
    return gram


KERNELS: dict[str, KernelFunction] = {
    "gaussian": gaussian,
    "linear": linear,
    "polynomial": polynomial,
    "laplace": laplace,
}


def kernel_named(name: str) -> KernelFunction:
    """The kernel of that name; ConfigError with the nearest name where there is none."""
    if name not in KERNELS:
        near = difflib.get_close_matches(name, KERNELS, n=1, cutoff=0.0)[0]
        raise ConfigError(f"kernel.name: given {name!r}, allowed: {', '.join(KERNELS)}; did you mean {near!r}?")
    return KERNELS[name]
