"""The squared maximum mean discrepancy between synthetic and real features, one value per class.

K  classes    M  synthetic rows    N  real rows    D  features
"""

from torch import Tensor

from m3d.config import ConfigError, Kernel
from m3d.kernels import bandwidths, kernel_named
from m3d.shapes import Float, ShapeError


def mmd2(
    syn_KMD: Float[Tensor, "K M D"],
    real_KND: Float[Tensor, "K N D"],
    config: Kernel,
    *,
    real_term: bool = True,
) -> Float[Tensor, " K"]:
    """Squared MMD per class; gradients reach the synthetic side only.

    biased (the paper's): ``mean K(X, X) - 2 mean K(X, Y) + mean K(Y, Y)``, diagonals included.
    unbiased: the means of K(X, X) and K(Y, Y) exclude their diagonals.

    Args:
        syn_KMD: synthetic features.
        real_KND: real features; detached here.
        config: kernel, bandwidth and estimator.
        real_term: whether to compute the last term. It has no gradient, so the pixels move the same without it, and
            it is the largest part of the kernel matrix. Without it the value lacks a constant.

    Returns:
        One value per class, shape [K], in the dtype of the features.

    Raises:
        ShapeError: the sets differ in classes or features.
        ConfigError: an unknown kernel, or too few rows for the unbiased estimator.

    Source: M3D (arXiv 2312.15927), equation of the loss; Gretton et al. (2012), lemma 6.
    """
    for side, features in (("synthetic", syn_KMD), ("real", real_KND)):
        if features.ndim != 3:
            raise ShapeError(f"{side} features", tuple(features.shape), "[classes, rows, features]")
    if syn_KMD.shape[0] != real_KND.shape[0] or syn_KMD.shape[2] != real_KND.shape[2]:
        classes, _, features = syn_KMD.shape
        raise ShapeError(
            "real features", tuple(real_KND.shape), f"[{classes}, rows, {features}] as on the synthetic side"
        )
    rows = min(syn_KMD.shape[1], real_KND.shape[1])
    if config.estimator == "unbiased" and rows < 2:
        raise ConfigError(
            f"unbiased needs two images of a class on either side, given {rows}; raise images_per_class or factor, "
            "or use the biased estimator",
            field="estimator",
        )
    kernel = kernel_named(config.name)
    real_KND = real_KND.detach()
    if kernel.centred:
        # The value depends on differences only. A common offset would cancel badly in float32.
        centre = real_KND.mean(dim=1, keepdim=True)
        syn_KMD, real_KND = syn_KMD - centre, real_KND - centre
    b_K = bandwidths(syn_KMD, real_KND, config) if kernel.needs_bandwidth else syn_KMD.new_ones(len(syn_KMD))
    within = _mean(kernel.function(syn_KMD, syn_KMD, b_K, config), config.estimator)
    between = kernel.function(syn_KMD, real_KND, b_K, config).mean((1, 2))
    value_K = within - 2 * between
    if real_term:
        value_K = value_K + _mean(kernel.function(real_KND, real_KND, b_K, config), config.estimator)
    return value_K


def _mean(gram_KRR: Tensor, estimator: str) -> Tensor:
    if estimator == "biased":
        return gram_KRR.mean((1, 2))
    rows = gram_KRR.shape[1]
    diagonal = gram_KRR.diagonal(dim1=1, dim2=2)
    return (gram_KRR.sum((1, 2)) - diagonal.sum(1)) / (rows * (rows - 1))
