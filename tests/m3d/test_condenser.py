"""The stepper: grouping, seeds, resuming and precision change nothing else."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from m3d import Augment, ConfigError, Encoder, Kernel, Outcome
from tests.helpers import BFLOAT16_COSINE, assert_close, condenser_of, kernel_id, run_steps

KERNELS = [
    Kernel(),
    Kernel(bandwidth="median"),
    Kernel(name="linear"),
    Kernel(name="polynomial"),
    Kernel(estimator="unbiased"),
]


def test_smoke():
    condenser = condenser_of()
    state, losses = condenser.step(condenser.init(), with_loss=True)
    assert losses is not None
    assert losses.shape == (3,)
    assert losses.min() > 0
    assert state.pixels_KSCHW.shape == state.momentum_KSCHW.shape == (3, 1, 3, 8, 8)
    assert state.broken_K.tolist() == [-1, -1, -1]


@pytest.mark.parametrize("kernel", KERNELS, ids=kernel_id)
def test_gradient_of_a_group_equals_that_of_single_classes(kernel):
    settings: dict[str, Any] = {"images_per_class": 2, "kernel": kernel, "class_count": 6, "batch_synthetic_max": 7}
    together = condenser_of((1, 4, 5), **settings)
    pixels = together.init().pixels_KSCHW
    for iteration in (0, 1, 7):
        losses, gradients = together.gradient(pixels, iteration, real_term=True)
        for k, class_id in enumerate((1, 4, 5)):
            loss, gradient = condenser_of((class_id,), **settings).gradient(
                pixels[k : k + 1], iteration, real_term=True
            )
            largest = float(gradients[k].abs().max())
            assert largest > 1e-5
            assert_close(gradient[0] / largest, gradients[k] / largest, rtol=0.0, atol=2e-5)
            assert_close(loss[0], losses[k], rtol=2e-5)


@pytest.mark.parametrize("pixel_step", ["reference", "plain"])
def test_trajectory_of_a_group_equals_that_of_single_classes(pixel_step):
    settings: dict[str, Any] = {"pixel_step": pixel_step, "class_count": 4, "images_per_class": 2, "learning_rate": 0.2}
    together = run_steps(condenser_of(range(4), **settings), 8)
    for k in range(4):
        alone = run_steps(condenser_of((k,), **settings), 8)
        assert_close(alone.pixels_KSCHW[0], together.pixels_KSCHW[k], rtol=1e-3, atol=1e-4)
        assert_close(alone.momentum_KSCHW[0], together.momentum_KSCHW[k], rtol=1e-2, atol=1e-5)


def test_same_seed_same_bytes():
    one, two, other = (run_steps(condenser_of(seed=seed), 5) for seed in (3, 3, 4))
    assert torch.equal(one.pixels_KSCHW, two.pixels_KSCHW)
    assert torch.equal(one.momentum_KSCHW, two.momentum_KSCHW)
    assert not torch.equal(one.pixels_KSCHW, other.pixels_KSCHW)


@pytest.mark.parametrize("stop", [1, 2, 5, 6])
def test_resume_gives_the_bytes_of_an_uninterrupted_run(stop):
    settings: dict[str, Any] = {"images_per_class": 3, "iterations_per_model": 3, "batch_synthetic_max": 8}
    whole = run_steps(condenser_of(**settings), 8)
    stored = run_steps(condenser_of(**settings), stop)
    state = replace(stored, pixels_KSCHW=stored.pixels_KSCHW.clone(), momentum_KSCHW=stored.momentum_KSCHW.clone())
    resumed = condenser_of(**settings)  # as in a new process, which has nothing but the state
    while state.iteration < 8:
        state, _ = resumed.step(state)
    assert torch.equal(state.pixels_KSCHW, whole.pixels_KSCHW)
    assert torch.equal(state.momentum_KSCHW, whole.momentum_KSCHW)


def test_with_loss_does_not_change_the_trajectory():
    with_loss, without = condenser_of(), condenser_of()
    a, b = with_loss.init(), without.init()
    for _ in range(5):
        a, losses = with_loss.step(a, with_loss=True)
        b, nothing = without.step(b)
        assert losses is not None
        assert nothing is None
    assert torch.equal(a.pixels_KSCHW, b.pixels_KSCHW)


def test_the_loss_of_other_pixels_is_that_of_a_step_from_them_and_changes_nothing():
    settings: dict[str, Any] = {"images_per_class": 3, "iterations_per_model": 2, "batch_synthetic_max": 8}
    condenser, twin = condenser_of(**settings), condenser_of(**settings)
    start, state, other = condenser.init().pixels_KSCHW.clone(), condenser.init(), twin.init()
    for iteration in range(5):
        of_start = condenser.loss(start, iteration)
        assert torch.equal(of_start, twin.gradient(start, iteration, real_term=True)[0])
        state, losses = condenser.step(state, with_loss=True)
        other, expected = twin.step(other, with_loss=True)
        assert losses is not None
        assert expected is not None
        assert torch.equal(losses, expected)
    assert torch.equal(state.pixels_KSCHW, other.pixels_KSCHW)
    assert not of_start.requires_grad


def test_the_encoder_is_redrawn_every_few_iterations():
    condenser = condenser_of(iterations_per_model=3)
    network, pixels = condenser._passes.network, condenser.init().pixels_KSCHW

    def weight_at(iteration: int) -> Tensor:
        condenser.gradient(pixels, iteration)
        return network.state_dict()["convolutions.0.weight"].clone()

    first = [weight_at(i) for i in range(7)]
    changed = [not torch.equal(a, b) for a, b in pairwise(first)]
    assert changed == [False, False, True, False, False, True]
    assert torch.equal(weight_at(0), first[0])
    assert network.training


def test_pixels_are_clamped_at_the_start_of_a_sweep():
    condenser, twin = condenser_of(pixel_step="plain"), condenser_of(pixel_step="plain")
    outside, inside = condenser.init(), twin.init()
    outside.pixels_KSCHW[0, 0, 0, 0, :2] = torch.tensor([1.7, -0.4])
    inside.pixels_KSCHW[0, 0, 0, 0, :2] = torch.tensor([1.0, 0.0])
    a, b = condenser.step(outside)[0], twin.step(inside)[0]
    assert torch.equal(a.pixels_KSCHW, b.pixels_KSCHW)


def test_result_is_within_0_and_1():
    condenser = condenser_of(learning_rate=50.0)
    state = run_steps(condenser, 2)
    assert float(state.pixels_KSCHW.abs().max()) > 1
    images = condenser.result(state).images_KSCHW
    assert 0 <= float(images.min()) < float(images.max()) <= 1


def test_a_subset_of_the_views_without_repetition():
    condenser = condenser_of(images_per_class=4, batch_synthetic_max=6)
    pixels = condenser.init().pixels_KSCHW
    assert condenser._tiles(pixels, 0).shape == (3, 6, 3, 4, 4)
    chosen = [condenser._tiles(pixels, i) for i in range(2)]
    assert not torch.equal(*chosen)
    assert all(len(chosen[0][k].flatten(1).unique(dim=0)) == 6 for k in range(3))
    assert condenser_of(images_per_class=4, batch_synthetic_max=16)._tiles(pixels, 0).shape[1] == 16


@pytest.mark.parametrize("block", [1, 5, 1000])
def test_block_changes_nothing_but_rounding(block):
    plain, blocked = condenser_of(), condenser_of(block=block)
    pixels = plain.init().pixels_KSCHW
    assert_close(blocked.gradient(pixels, 0)[1], plain.gradient(pixels, 0)[1], atol=1e-6)


@pytest.mark.parametrize("name", BFLOAT16_COSINE)
def test_bfloat16_gradient_points_the_same_way(name):
    settings: dict[str, Any] = {"size": 32, "batch_real": 16, "encoder": Encoder(name=name)}
    pixels = condenser_of(**settings).init().pixels_KSCHW
    exact, short = (
        condenser_of(**settings, precision=p).gradient(pixels, 0)[1].flatten(1) for p in ("float32", "bfloat16")
    )
    assert short.dtype == torch.float32
    assert not torch.equal(exact, short)
    assert float(torch.cosine_similarity(exact, short).min()) > BFLOAT16_COSINE[name]


def test_finished():
    condenser = condenser_of(iterations=2)
    state = condenser.init()
    assert condenser.finished(state) is None
    state = run_steps(condenser, 2)
    assert condenser.finished(state) is Outcome.FINISHED
    broken = replace(state, broken_K=torch.tensor([-1, 1, -1]))
    assert condenser.finished(broken) is Outcome.NOT_FINITE


def test_learning_rate_follows_images_per_class():
    one = condenser_of(images_per_class=4, learning_rate=4.0)
    assert torch.equal(run_steps(one, 2).pixels_KSCHW, run_steps(condenser_of(images_per_class=4), 2).pixels_KSCHW)


def test_augmentation_is_applied():
    pixels = condenser_of().init().pixels_KSCHW
    plain = condenser_of(augment=Augment(strategy="none")).gradient(pixels, 0)[1]
    assert not torch.allclose(plain, condenser_of().gradient(pixels, 0)[1], rtol=0.1)


def test_exception_class_count():
    with pytest.raises(ConfigError, match="class_count: given 4, but there is a class with id 4"):
        condenser_of((1, 4), class_count=4)
