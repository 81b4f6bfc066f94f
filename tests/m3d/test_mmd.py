"""The loss and its gradient against the equation in plain float64 loops."""

import numpy as np
import pytest
import torch

from m3d import ConfigError, Kernel, ShapeError, mmd2
from m3d.kernels import KERNELS
from tests.helpers import (
    DIFFERENCES,
    assert_close,
    bandwidth_by_pairs,
    gradient_by_differences,
    kernel_id,
    mmd2_by_loops,
    random,
    unchecked,
)

BIASED = [
    Kernel(),
    Kernel(bandwidth_multiplier=0.2),
    Kernel(bandwidth="median"),
    Kernel(bandwidth="fixed", bandwidth_value=2.0),
    Kernel(scales=1),
    Kernel(scales=4, scale_factor=1.5),
    *(Kernel(name=name) for name in KERNELS if name != Kernel().name),
]
UNBIASED = [Kernel(name=name, estimator="unbiased") for name in KERNELS]
SMOOTH = [
    Kernel(bandwidth="fixed", bandwidth_value=2.0),
    *(kernel for kernel in (*BIASED, *UNBIASED) if not KERNELS[kernel.name].needs_bandwidth),
]
SYN, REAL = random(2, 3, 4, seed=1) * 0.7, random(2, 5, 4, seed=2) * 0.6 + 0.3


def grad(syn, real, kernel, **options):
    leaf = syn.clone().requires_grad_(True)
    return torch.autograd.grad(mmd2(leaf, real, kernel, **options).sum(), leaf)[0]


@pytest.mark.parametrize("kernel", [*BIASED, *UNBIASED], ids=kernel_id)
def test_value_equals_the_equation(kernel):
    for k in range(2):
        x, y = SYN[k].numpy(), REAL[k].numpy()
        expected = mmd2_by_loops(x, y, kernel, bandwidth_by_pairs(x, y, kernel))
        assert_close(mmd2(SYN, REAL, kernel)[k], expected)


@pytest.mark.parametrize("kernel", [*BIASED, *UNBIASED], ids=kernel_id)
def test_gradient_equals_central_differences(kernel):
    found = grad(SYN, REAL, kernel)
    for k in range(2):
        x, y = SYN[k].numpy(), REAL[k].numpy()
        expected = gradient_by_differences(x, y, kernel, bandwidth_by_pairs(x, y, kernel))
        assert_close(found[k], expected, None, **DIFFERENCES)


@pytest.mark.parametrize("kernel", SMOOTH, ids=kernel_id)
def test_gradcheck(kernel):
    leaf = SYN.clone().requires_grad_(True)
    assert torch.autograd.gradcheck(lambda x: mmd2(x, REAL, kernel), (leaf,))


@pytest.mark.parametrize("kernel", [*BIASED, *UNBIASED], ids=kernel_id)
def test_cardinality(kernel):
    value = mmd2(SYN.float(), REAL.float(), kernel)
    assert value.shape == (2,)
    assert value.dtype == torch.float32
    assert mmd2(SYN[:1, :2], REAL[:1, :2], kernel).shape == (1,)


@pytest.mark.parametrize("kernel", [*BIASED, *UNBIASED], ids=kernel_id)
def test_batched_equals_one_class_at_a_time(kernel):
    one = [mmd2(SYN[k : k + 1], REAL[k : k + 1], kernel) for k in range(2)]
    assert_close(mmd2(SYN, REAL, kernel), torch.cat(one))
    gradients = [grad(SYN[k : k + 1], REAL[k : k + 1], kernel) for k in range(2)]
    assert_close(grad(SYN, REAL, kernel), torch.cat(gradients))


def test_linear_kernel_is_the_distance_of_the_means():
    expected = (SYN.mean(1) - REAL.mean(1)).square().sum(1)
    assert_close(mmd2(SYN, REAL, Kernel(name="linear")), expected)


@pytest.mark.parametrize("kernel", BIASED, ids=kernel_id)
def test_a_set_is_at_no_distance_from_itself(kernel):
    assert_close(mmd2(REAL, REAL, kernel), torch.zeros(2))
    assert float(mmd2(SYN, REAL, kernel).min()) > 1e-3


@pytest.mark.parametrize("kernel", [*BIASED, *UNBIASED], ids=kernel_id)
def test_without_the_real_term_the_gradient_is_the_same(kernel):
    assert torch.equal(grad(SYN, REAL, kernel, real_term=False), grad(SYN, REAL, kernel))
    moved = SYN + 0.1  # ... and the value is off by the same constant, where the bandwidth does not move
    if kernel.bandwidth == "fixed" or not KERNELS[kernel.name].needs_bandwidth:
        off = [mmd2(x, REAL, kernel) - mmd2(x, REAL, kernel, real_term=False) for x in (SYN, moved)]
        assert_close(off[0], off[1])
        # A centred kernel is evaluated around the real mean, where the biased real term of the linear one is 0.
        if not (KERNELS[kernel.name].centred and kernel.estimator == "biased"):
            assert float(off[0].abs().min()) > 0.1


def test_no_gradient_reaches_the_real_side():
    real = REAL.clone().requires_grad_(True)
    assert not mmd2(SYN, real, Kernel()).requires_grad
    mmd2(SYN.clone().requires_grad_(True), real, Kernel()).sum().backward()
    assert real.grad is None


def test_order_of_rows_does_not_matter():
    assert_close(mmd2(SYN.flip(1), REAL.flip(1), Kernel()), mmd2(SYN, REAL, Kernel()))


@pytest.mark.parametrize("name", ["gaussian", "laplace", "linear"])
@pytest.mark.parametrize("offset", [1.0, 100.0])
def test_a_common_offset_changes_nothing_in_float32(name, offset):
    # These three are functions of differences: the equation has no offset in it.
    kernel = Kernel(name=name)
    syn, real = random(1, 4, 64, seed=3) * 0.1, random(1, 50, 64, seed=4) * 0.1
    syn, real = ((z + offset).float() for z in (syn, real))
    exact = mmd2(syn.double(), real.double(), kernel)
    assert_close(mmd2(syn, real, kernel), exact, rtol=1e-3, atol=0.0)
    assert_close(grad(syn, real, kernel), grad(syn.double(), real.double(), kernel), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("kernel", [*BIASED, *UNBIASED], ids=kernel_id)
@pytest.mark.parametrize("value", [0.0, 0.1, 700.3])
def test_identical_features_are_finite(kernel, value):
    x, y = torch.full((1, 3, 16), value), torch.full((1, 20, 16), value)
    assert mmd2(x, y, kernel).isfinite().all()
    assert grad(x, y, kernel).isfinite().all()


def test_in_float32_near_float64():
    assert_close(mmd2(SYN.float(), REAL.float(), Kernel()), mmd2(SYN, REAL, Kernel()), torch.float32)


@pytest.mark.parametrize(
    "kernel", [Kernel(), Kernel(bandwidth="fixed", bandwidth_value=2.0), Kernel(name="linear")], ids=kernel_id
)
@pytest.mark.parametrize("real", [REAL[:1], REAL[..., :3]], ids=["classes", "features"])
def test_exception_sets_that_differ(kernel, real):
    with unchecked(), pytest.raises(ShapeError, match=r"has shape \[.*\]; expected "):
        mmd2(SYN, real, kernel)


def test_exception_axes():
    with unchecked(), pytest.raises(ShapeError, match=r"has shape \[3, 4\]; expected \[classes, rows, features\]"):
        mmd2(SYN[0], REAL[0], Kernel())
    with unchecked(), pytest.raises(ShapeError, match=r"has shape \[5, 4\]; expected \[classes, rows, features\]"):
        mmd2(SYN, REAL[0], Kernel())


def test_exception_kernel_and_rows():
    with pytest.raises(ConfigError, match="did you mean 'polynomial'"):
        mmd2(SYN, REAL, Kernel(name="polynom"))
    with pytest.raises(ConfigError, match=r"estimator: unbiased needs two images .* given 1; raise"):
        mmd2(SYN[:, :1], REAL, Kernel(estimator="unbiased"))


def test_not_finite_features_give_a_not_finite_loss():
    broken = SYN.clone()
    broken[1, 0, 0] = float("nan")
    assert np.isfinite(mmd2(broken, REAL, Kernel()).numpy()).tolist() == [True, False]
