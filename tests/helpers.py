"""Shared by the tests: the table of tolerances, made-up images, small condensers, and the loss in plain loops."""

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any

import jaxtyping
import numpy as np
import torch
from torch import Tensor

from m3d import Augment, ClassImages, Condense, Condenser, Encoder, Kernel, Method

TOLERANCE: dict[torch.dtype, dict[str, float]] = {
    torch.float64: {"rtol": 1e-9, "atol": 1e-11},
    torch.float32: {"rtol": 1e-4, "atol": 1e-5},
}
"""Tolerances of equal results, by the dtype of their computation."""
DIFFERENCES = {"rtol": 1e-6, "atol": 1e-8}
"""Tolerances of central differences of a float64 formula."""
GOLDEN_RTOL = {"float32": 1e-3, "bfloat16": 2e-2}
"""Relative tolerance of a stored loss curve, by the precision of the encoder."""
BFLOAT16_COSINE = {"convnet3": 0.999, "resnetap10": 0.95}
"""Smallest cosine between the pixel gradients of a bfloat16 and a float32 encoder, per class."""

MEAN, STD = (0.48, 0.5, 0.44), (0.25, 0.24, 0.26)


def assert_close(given: Any, expected: Any, dtype: torch.dtype | None = None, **tolerance: Any) -> None:
    """Compares at the tolerance of the dtype, by default that of ``given``, or at an explicit tolerance."""
    given, expected = torch.as_tensor(given), torch.as_tensor(expected, dtype=torch.float64)
    chosen = {**TOLERANCE.get(dtype or given.dtype, {"rtol": 0.0, "atol": 0.0}), **tolerance}
    torch.testing.assert_close(given.double(), expected, **chosen)


def kernel_id(kernel: Kernel) -> str:
    """The settings that differ from the default, for the name of a test."""
    parts = [str(getattr(kernel, f.name)) for f in fields(Kernel) if getattr(kernel, f.name) != f.default]
    return "-".join(parts) or "default"


@contextlib.contextmanager
def unchecked() -> Iterator[None]:
    """Switches off the checks of shapes in signatures, as for users; only the package's own checks remain."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", before)


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Normal numbers."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def images_of(class_id: int, count: int, *, size: int = 8, channels: int = 3) -> Tensor:
    """uint8 images of a class: a wave of its own direction and length, plus noise; always the same."""
    noise = torch.Generator().manual_seed(1000 + class_id)
    y, x = torch.meshgrid(torch.arange(size) / size, torch.arange(size) / size, indexing="ij")
    angle = class_id * 2.4
    wave = torch.sin(2 * math.pi * (1 + class_id % 3) * (x * math.cos(angle) + y * math.sin(angle)))
    values = 0.5 + 0.3 * wave + 0.15 * torch.randn((count, channels, size, size), generator=noise)
    return (values.clamp(0, 1) * 255).round().to(torch.uint8)


def class_images(
    ids: range | tuple[int, ...], *, count: int = 20, size: int = 8, seed: int = 0, channels: int = 3
) -> ClassImages:
    """The images of some classes of a made-up data set."""
    return ClassImages([images_of(i, count, size=size, channels=channels) for i in ids], list(ids), seed=seed)


def condenser_of(
    ids: range | tuple[int, ...] = range(3),
    *,
    class_count: int | None = None,
    size: int = 8,
    seed: int = 0,
    kernel: Kernel | None = None,
    augment: Augment | None = None,
    encoder: Encoder | None = None,
    **settings: Any,
) -> Condenser:
    """A small condenser in float32; ``settings`` are fields of Condense."""
    chosen: dict[str, Any] = {
        "iterations": 6,
        "batch_real": 12,
        "iterations_per_model": 2,
        "precision": "float32",
        **settings,
    }
    assert set(chosen) <= {field.name for field in fields(Condense)}
    return Condenser(
        class_images(ids, size=size, seed=seed),
        Method(
            kernel=kernel or Kernel(),
            augment=augment or Augment(),
            encoder=encoder or Encoder(name="convnet2", width=8),
            condense=Condense(**chosen),
        ),
        mean=MEAN,
        std=STD,
        class_count=class_count or max(ids) + 1,
    )


def run_steps(condenser: Condenser, steps: int) -> Any:
    """The state after some steps from the initial one."""
    state = condenser.init()
    for _ in range(steps):
        state, _ = condenser.step(state)
    return state


# The loss from the equation of the paper, one pair at a time, in float64. Nothing of m3d's computations is used here.


def distance_by_loops(x: np.ndarray, y: np.ndarray) -> float:
    """Squared Euclidean distance of two vectors."""
    return sum((float(a) - float(b)) ** 2 for a, b in zip(x, y, strict=True))


def bandwidth_by_pairs(x: np.ndarray, y: np.ndarray, kernel: Kernel) -> float:
    """Squared bandwidth of the stacked batch: mean (or lower median) over all pairs of different rows."""
    z = np.concatenate([x, y])
    pairs = [distance_by_loops(z[i], z[j]) for i in range(len(z)) for j in range(len(z)) if i != j]
    if kernel.bandwidth == "fixed":
        assert kernel.bandwidth_value is not None
        value = kernel.bandwidth_value
    else:
        value = sum(pairs) / len(pairs) if kernel.bandwidth == "mean" else sorted(pairs)[(len(pairs) - 1) // 2]
    return value * kernel.bandwidth_multiplier


def _product(x: np.ndarray, y: np.ndarray) -> float:
    return sum(float(p) * float(q) for p, q in zip(x, y, strict=True))


def _gaussian(x: np.ndarray, y: np.ndarray, kernel: Kernel, b: float) -> float:
    widths = [b * kernel.scale_factor ** (i - kernel.scales // 2) for i in range(kernel.scales)]
    return sum(math.exp(-distance_by_loops(x, y) / width) for width in widths)


FORMULAS: dict[str, Callable[[np.ndarray, np.ndarray, Kernel, float], float]] = {
    "gaussian": _gaussian,
    "linear": lambda x, y, kernel, b: _product(x, y),
    "polynomial": lambda x, y, kernel, b: (_product(x, y) + 1) ** 2,
    "laplace": lambda x, y, kernel, b: sum(math.exp(-gamma * distance_by_loops(x, y)) for gamma in (0.1, 1.0, 5.0)),
}
"""Every kernel of two vectors, at a given bandwidth."""


def kernel_by_loops(x: np.ndarray, y: np.ndarray, kernel: Kernel, b: float) -> float:
    """One entry of the kernel matrix."""
    return FORMULAS[kernel.name](x, y, kernel, b)


def mmd2_by_loops(x: np.ndarray, y: np.ndarray, kernel: Kernel, b: float) -> float:
    """mean K(X, X) - 2 mean K(X, Y) + mean K(Y, Y) at a given bandwidth; unbiased without the diagonals."""

    def within(z: np.ndarray) -> float:
        keep = [(i, j) for i in range(len(z)) for j in range(len(z)) if kernel.estimator == "biased" or i != j]
        return sum(kernel_by_loops(z[i], z[j], kernel, b) for i, j in keep) / len(keep)

    between = sum(kernel_by_loops(p, q, kernel, b) for p in x for q in y) / (len(x) * len(y))
    return within(x) - 2 * between + within(y)


def gradient_by_differences(x: np.ndarray, y: np.ndarray, kernel: Kernel, b: float, step: float = 1e-5) -> np.ndarray:
    """Central differences of ``mmd2_by_loops`` by x at a fixed bandwidth."""
    gradient = np.zeros_like(x)
    for index in np.ndindex(*x.shape):
        up, down = x.copy(), x.copy()
        up[index] += step
        down[index] -= step
        gradient[index] = (mmd2_by_loops(up, y, kernel, b) - mmd2_by_loops(down, y, kernel, b)) / (2 * step)
    return gradient
