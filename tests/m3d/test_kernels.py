"""Kernel matrices and bandwidths against one pair at a time."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from m3d import ConfigError, Kernel, ShapeError
from m3d.kernels import KERNELS, bandwidths, kernel_named, squared_distances
from tests.helpers import (
    FORMULAS,
    assert_close,
    bandwidth_by_pairs,
    distance_by_loops,
    kernel_by_loops,
    kernel_id,
    random,
    unchecked,
)

BANKS = [
    Kernel(),
    Kernel(scales=1),
    Kernel(scales=4, scale_factor=1.5),
    Kernel(scales=7, scale_factor=3.0),
    *(Kernel(name=name) for name in KERNELS if name != Kernel().name),
]
BANDWIDTHS = [
    Kernel(),
    Kernel(bandwidth_multiplier=0.3),
    Kernel(bandwidth="median"),
    Kernel(bandwidth="median", bandwidth_multiplier=2.5),
    Kernel(bandwidth="fixed", bandwidth_value=1.7),
    Kernel(bandwidth="fixed", bandwidth_value=1.7, bandwidth_multiplier=3.0),
]


METHOD_PAGE = Path(__file__).resolve().parents[2] / "docs" / "method.md"


@pytest.mark.parametrize("name", KERNELS)
def test_every_kernel_is_documented_and_has_a_formula(name):
    assert KERNELS[name].formula
    assert name in FORMULAS
    assert re.search(rf"\b{name}\b", METHOD_PAGE.read_text(), re.IGNORECASE)


def test_the_default_is_a_kernel():
    assert Kernel().name in KERNELS
    assert set(FORMULAS) == set(KERNELS)


@pytest.mark.parametrize("name", KERNELS)
def test_only_kernels_that_need_a_bandwidth_depend_on_it(name):
    x, y, kernel = random(2, 3, 4), random(2, 5, 4), Kernel(name=name)
    one, other = (KERNELS[name].function(x, y, torch.full((2,), b).double(), kernel) for b in (1.0, 2.0))
    assert torch.equal(one, other) is not KERNELS[name].needs_bandwidth


@pytest.mark.parametrize("name", KERNELS)
def test_smoke(name):
    gram = kernel_named(name).function(random(2, 3, 4), random(2, 5, 4), torch.ones(2).double(), Kernel(name=name))
    assert gram.shape == (2, 3, 5)
    assert gram.isfinite().all()


@pytest.mark.parametrize("kernel", BANKS, ids=kernel_id)
def test_feature(kernel):
    x, y, b = random(2, 3, 4, seed=1), random(2, 5, 4, seed=2), torch.tensor([0.7, 3.0]).double()
    gram = kernel_named(kernel.name).function(x, y, b, kernel)
    loops = [
        [[kernel_by_loops(p, q, kernel, float(b[k])) for q in y[k].numpy()] for p in x[k].numpy()] for k in range(2)
    ]
    assert_close(gram, np.array(loops))


def test_exception_unknown_kernel_names_the_nearest():
    with pytest.raises(
        ConfigError, match=r"kernel\.name: given 'gausian', allowed: gaussian, .* did you mean 'gaussian'"
    ):
        kernel_named("gausian")
    with pytest.raises(ConfigError, match="did you mean 'laplace'"):
        kernel_named("Laplacian")


@pytest.mark.parametrize("shape", [(3, 5, 4), (2, 5, 3)], ids=["classes", "features"])
def test_exception_shapes(shape):
    with unchecked(), pytest.raises(ShapeError, match=r"has shape \[.*\]; expected \[2, N, 4\]"):
        squared_distances(random(2, 3, 4), random(*shape))


def test_distances_feature():
    x, y = random(2, 3, 6, seed=3), random(2, 4, 6, seed=4)
    loops = [[[distance_by_loops(p, q) for q in y[k].numpy()] for p in x[k].numpy()] for k in range(2)]
    assert_close(squared_distances(x, y), np.array(loops))


def test_distances_are_never_negative_and_keep_a_large_offset():
    x = random(1, 40, 64, seed=5, dtype=torch.float32) * 0.1
    d2 = squared_distances(x + 1000, x + 1000)
    assert float(d2.min()) >= 0
    assert_close(d2, squared_distances((x + 1000).double(), (x + 1000).double()), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kernel", BANDWIDTHS, ids=kernel_id)
@pytest.mark.parametrize("rows", [(3, 4), (2, 4)], ids=["odd", "even"])
def test_bandwidth_feature(kernel, rows):
    x, y = random(2, rows[0], 5, seed=6), random(2, rows[1], 5, seed=7) + 0.5
    expected = [bandwidth_by_pairs(x[k].numpy(), y[k].numpy(), kernel) for k in range(2)]
    assert_close(bandwidths(x, y, kernel), np.array(expected))


@pytest.mark.parametrize("kernel", BANDWIDTHS[:4:2], ids=kernel_id)
def test_bandwidth_in_float32_at_a_large_offset(kernel):
    x, y = random(1, 6, 8, seed=8, dtype=torch.float32), random(1, 9, 8, seed=9, dtype=torch.float32)
    expected = bandwidth_by_pairs((x[0] + 1000).numpy(), (y[0] + 1000).numpy(), kernel)
    assert_close(bandwidths(x + 1000, y + 1000, kernel), [expected], rtol=1e-4, atol=0.0)


@pytest.mark.parametrize("kernel", BANDWIDTHS, ids=kernel_id)
def test_bandwidth_is_detached(kernel):
    x = random(1, 3, 4).requires_grad_(True)
    assert not bandwidths(x, random(1, 3, 4, seed=1), kernel).requires_grad


@pytest.mark.parametrize("kernel", BANDWIDTHS[:4:2], ids=kernel_id)
def test_bandwidth_of_equal_features_is_above_zero(kernel):
    x = torch.full((1, 3, 4), 0.3)
    b = bandwidths(x, x, kernel)
    assert 0 < float(b) < 1e-20
    assert bool((1 / b).isfinite())
