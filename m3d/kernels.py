"""Kernels on features, batched over classes, and the bandwidth of the Gaussian.

    K  classes    M, N  rows of the two sets    D  features

``KERNELS`` is the list of kernels. To add one, write its function and its line in ``KERNELS``, its formula in plain
loops in ``tests/helpers.py``, and its line in ``docs/method.md``.
"""

import difflib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from m3d.config import ConfigError, Kernel, shown
from m3d.shapes import Float, ShapeError

LAPLACE_GAMMAS = (0.1, 1.0, 5.0)
"""Decay rates of the published "laplace" kernel, which uses squared distances and no bandwidth."""


@dataclass(frozen=True, kw_only=True)
class KernelSpec:
    """What the loss has to know of a kernel."""

    function: Callable[[Tensor, Tensor, Tensor, Kernel], Tensor]
    """Kernel matrix [K, M, N] of features [K, M, D], [K, N, D], bandwidths [K] and the settings."""
    formula: str
    """The kernel of two vectors x and y, in one line."""
    needs_bandwidth: bool = False
    """Whether the function uses the bandwidths; otherwise none are computed, and it gets ones."""
    centred: bool = False
    """Whether the mean of the real features is subtracted first: for a kernel of products, whose MMD ignores it."""


def squared_distances(x_KMD: Float[Tensor, "K M D"], y_KND: Float[Tensor, "K N D"]) -> Float[Tensor, "K M N"]:
    """``|x_i - y_j|^2`` of every pair, at least 0, shape [K, M, N].

    Expanded as ``|x|^2 - 2 x y' + |y|^2``, whose gradient is finite everywhere. (The gradient of a square root is
    infinite at 0.) Both sets are first shifted by the mean of y. This changes no distance and avoids cancellation in
    the subtraction.

    Raises:
        ShapeError: the sets differ in classes or features.
    """
    if x_KMD.shape[0] != y_KND.shape[0] or x_KMD.shape[-1] != y_KND.shape[-1]:
        raise ShapeError("y", tuple(y_KND.shape), f"[{x_KMD.shape[0]}, N, {x_KMD.shape[-1]}] to match x")
    centre = y_KND.detach().mean(dim=1, keepdim=True)
    x, y = x_KMD - centre, y_KND - centre
    squared_x, squared_y = x.square().sum(-1), y.square().sum(-1)
    return (squared_x[:, :, None] + squared_y[:, None, :] - 2 * x @ y.mT).clamp_min(0)


def bandwidths(
    syn_KMD: Float[Tensor, "K M D"], real_KND: Float[Tensor, "K N D"], config: Kernel
) -> Float[Tensor, " K"]:
    """The squared bandwidth b of every class, detached, times the multiplier, shape [K].

    mean: the mean squared distance between different rows of the stacked batch,
    ``sum_ij |z_i - z_j|^2 / (n^2 - n) = (2 n sum |z|^2 - 2 |sum z|^2) / (n^2 - n)``, computed without any pair.
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
    """Sum over the bank: ``sum_s exp(-|x - y|^2 / (b s))``, s = scale_factor**(i - scales // 2), [K, M, N]."""
    d2 = squared_distances(x_KMD, y_KND) / bandwidth_K[:, None, None]
    gram = torch.zeros_like(d2)
    for i in range(config.scales):
        gram = gram + torch.exp(-d2 / config.scale_factor ** (i - config.scales // 2))
    return gram


def linear(x_KMD: Tensor, y_KND: Tensor, bandwidth_K: Tensor, config: Kernel) -> Tensor:
    """``x . y``, [K, M, N]: the MMD is then the distance of the means, which is DM's objective."""
    return x_KMD @ y_KND.mT


def polynomial(x_KMD: Tensor, y_KND: Tensor, bandwidth_K: Tensor, config: Kernel) -> Tensor:
    """``(x . y + 1)^2``, [K, M, N]."""
    return (x_KMD @ y_KND.mT + 1).square()


def laplace(x_KMD: Tensor, y_KND: Tensor, bandwidth_K: Tensor, config: Kernel) -> Tensor:
    """The published "laplace": ``sum over gamma in {0.1, 1, 5} of exp(-gamma |x - y|^2)``, [K, M, N]."""
    d2 = squared_distances(x_KMD, y_KND)
    gram = torch.zeros_like(d2)
    for gamma in LAPLACE_GAMMAS:
        gram = gram + torch.exp(-gamma * d2)
    return gram


KERNELS: dict[str, KernelSpec] = {
    "gaussian": KernelSpec(
        function=gaussian, formula="sum over scales s of exp(-|x - y|^2 / (b s))", needs_bandwidth=True
    ),
    "linear": KernelSpec(function=linear, formula="x . y", centred=True),
    "polynomial": KernelSpec(function=polynomial, formula="(x . y + 1)^2"),
    "laplace": KernelSpec(function=laplace, formula="sum over gamma in {0.1, 1, 5} of exp(-gamma |x - y|^2)"),
}


def kernel_named(name: str) -> KernelSpec:
    """The kernel of a name.

    Raises:
        ConfigError: there is none; the message lists all names and suggests the nearest one.
    """
    if name not in KERNELS:
        near = difflib.get_close_matches(name, KERNELS, n=1, cutoff=0.0)[0]
        text = f"given {shown(name)}, allowed: {', '.join(KERNELS)}; did you mean {near!r}?"
        raise ConfigError(text, field="kernel.name")
    return KERNELS[name]
