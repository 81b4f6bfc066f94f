"""The pixel step against the published loop: one SGD optimiser over one tensor of all classes, class after class."""

import numpy as np
import pytest
import torch

from m3d import Augment, Condensed, Outcome, decode, standardise
from m3d import augment as augmentation
from m3d.encoders import build
from m3d.seeding import generator
from m3d.state import coast, descend
from tests.helpers import MEAN, STD, assert_close, condenser_of, random

SHAPE = (1, 2, 3, 3)  # of a class: stored, channels, height, width


def slope(class_id):
    """Minimum (partly outside [0, 1]) and steepness of a made-up quadratic loss of a class."""
    return random(*SHAPE, seed=class_id) * 0.8 + 0.5, 0.3 + 0.15 * class_id


def loss_of(pixels, class_id):
    minimum, steepness = slope(class_id)
    return 0.5 * steepness * (pixels - minimum).square().sum()


def published_loop(start, *, sweeps, rate, momentum, loss):
    """Pixels after the published loop: one optimiser, a clamp at the start of a sweep, a step after each class's loss."""
    pixels = start.clone().requires_grad_(True)
    optimiser = torch.optim.SGD([pixels], lr=rate, momentum=momentum)
    for sweep in range(sweeps):
        with torch.no_grad():
            pixels.clamp_(0, 1)
        for k in range(len(start)):
            optimiser.zero_grad()
            loss(pixels[k], k, sweep).backward()
            optimiser.step()
    return pixels.detach()


def all_at_once(start, ids, *, classes, sweeps, rate, momentum):
    """The composition of Condenser.step, with the quadratic's gradient in the place of the encoder's."""
    pixels, velocity = start[ids].clone(), torch.zeros_like(start[ids])
    before = torch.tensor(ids)
    for _ in range(sweeps):
        pixels.clamp_(0, 1)
        coast(pixels, velocity, before, rate, momentum)
        gradient = torch.stack([slope(i)[1] * (pixels[k] - slope(i)[0]) for k, i in enumerate(ids)])
        descend(pixels, velocity, gradient, rate, momentum)
        coast(pixels, velocity, classes - 1 - before, rate, momentum)
    return pixels


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("classes", [1, 3, 12])
def test_reference_step_equals_the_published_loop(classes, momentum):
    start = random(classes, *SHAPE, seed=99).sigmoid()
    options = {"sweeps": 6, "rate": 0.4, "momentum": momentum}
    expected = published_loop(start, loss=lambda pixels, k, _: loss_of(pixels, k), **options)
    assert_close(all_at_once(start, list(range(classes)), classes=classes, **options), expected)
    assert float((expected - start).abs().max()) > 0.1
    if classes > 2:  # a class moves the same in a group of some of the classes
        some = [classes - 1, 1]
        assert_close(all_at_once(start, some, classes=classes, **options), expected[some])


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_descend_equals_sgd(momentum):
    pixels, velocity = random(3, *SHAPE, seed=99).sigmoid(), torch.zeros(3, *SHAPE, dtype=torch.float64)
    parameter = pixels.clone().requires_grad_(True)
    optimiser = torch.optim.SGD([parameter], lr=0.3, momentum=momentum)
    for step in range(5):
        gradient = random(3, *SHAPE, seed=step)
        descend(pixels, velocity, gradient, 0.3, momentum)
        parameter.grad = gradient.clone()
        optimiser.step()
    assert_close(pixels, parameter.detach())


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_coast_is_so_many_steps_without_a_gradient(momentum):
    steps = torch.tensor([0, 1, 7])
    pixels, velocity = random(3, *SHAPE, seed=1), random(3, *SHAPE, seed=2)
    expected, left = pixels.clone(), velocity.clone()
    for k, count in enumerate(steps.tolist()):
        for _ in range(count):
            left[k] *= momentum
            expected[k] -= 0.3 * left[k]
    coast(pixels, velocity, steps, 0.3, momentum)
    assert_close(pixels, expected)
    assert_close(velocity, left)


def mmd2_by_pairs(x, y):
    """The equation with the paper's five Gaussians, for one class, without m3d."""
    z = torch.cat([x, y])
    d2 = (z[:, None] - z[None]).square().sum(-1)
    b = d2.detach().sum() / (len(z) ** 2 - len(z))
    gram = torch.stack([torch.exp(-d2 / (b * s)) for s in (0.25, 0.5, 1, 2, 4)]).sum(0)
    m = len(x)
    return gram[:m, :m].mean() - 2 * gram[:m, m:].mean() + gram[m:, m:].mean()


def published_condensation(condenser, sweeps):
    """Pixels after the complete published method, class by class, with the condenser's encoder weights and draws."""
    real, config, size = condenser.real, condenser.condense, condenser.real.shape[1]

    def loss(pixels, k, sweep):
        drawn = generator(real.seed, "encoder", sweep // config.iterations_per_model)
        network = build("convnet2", channels=3, image_size=size, classes=1, generator=drawn, width=8)
        one = augmentation.draw(Augment(), real.seed, real.ids_K[k : k + 1], sweep, size, size)
        real_images = real.batch(sweep, config.batch_real)[k].float() / 255
        both = torch.cat([decode(pixels, config.factor), real_images])
        both = augmentation.apply(standardise(both, MEAN, STD)[None], one, Augment())[0]
        features = network.features(both)
        m = len(both) - len(real_images)
        return mmd2_by_pairs(features[:m], features[m:].detach())

    start = condenser.init().pixels_KSCHW
    return published_loop(start, sweeps=sweeps, rate=config.step_size, momentum=config.momentum, loss=loss)


@pytest.mark.parametrize(("classes", "momentum"), [(3, 0.5), (3, 0.0), (3, 0.9), (12, 0.5)])
def test_condenser_equals_the_published_condensation(classes, momentum):
    condenser = condenser_of(range(classes), images_per_class=2, momentum=momentum, learning_rate=0.3)
    state = condenser.init()
    start = state.pixels_KSCHW.clone()
    for _ in range(5):
        state, _ = condenser.step(state)
    expected = published_condensation(condenser, 5)
    assert_close(state.pixels_KSCHW, expected, rtol=1e-3, atol=1e-4)
    assert float((expected - start).abs().max()) > 0.05


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_plain_step_is_ordinary_sgd(momentum):
    condenser = condenser_of(range(3), pixel_step="plain", momentum=momentum, learning_rate=0.3)
    state = condenser.init()
    parameter = state.pixels_KSCHW.clone().requires_grad_(True)
    optimiser = torch.optim.SGD([parameter], lr=0.3, momentum=momentum)
    for iteration in range(5):
        with torch.no_grad():
            parameter.clamp_(0, 1)
        parameter.grad = condenser.gradient(parameter.detach().clone(), iteration)[1]
        optimiser.step()
        state, _ = condenser.step(state)
    assert_close(state.pixels_KSCHW, parameter.detach())


def test_standardise():
    images = torch.rand(2, 3, 4, 4, dtype=torch.float64)
    expected = (images.numpy() - np.array(MEAN).reshape(3, 1, 1)) / np.array(STD).reshape(3, 1, 1)
    assert_close(standardise(images, MEAN, STD), expected)


def test_views_of_a_condensed_set():
    images = torch.rand(2, 3, 3, 8, 8)
    condensed = Condensed(images_KSCHW=images, class_ids=(4, 1), factor=2, mean=MEAN, std=STD)
    views, labels = condensed.views(normalise=False)
    assert views.shape == (24, 3, 8, 8)
    assert labels.tolist() == [4] * 12 + [1] * 12
    assert torch.equal(views[12:], decode(images[1], 2))
    assert_close(condensed.views()[0], standardise(views, MEAN, STD))


def test_outcomes_are_sentences():
    assert all(len(outcome.value.split()) > 3 for outcome in Outcome)
