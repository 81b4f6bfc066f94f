"""The loop: what it yields and when, and its message about a loss that is not finite."""

import pytest
import torch

import m3d
import m3d.passes
from m3d import Condense, ConfigError, Encoder, Kernel, NotFiniteError, Outcome, iterate, moments
from tests.helpers import assert_close, condenser_of, images_of, run_steps

SMALL = Encoder(name="convnet2", width=8)


def data(classes=3, count=20):
    images = torch.cat([images_of(i, count) for i in range(classes)])
    labels = torch.arange(classes).repeat_interleave(count)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    return images[order], labels[order]


def test_smoke():
    steps = list(iterate(condenser_of(iterations=7, log_every=3)))
    assert [step.state.iteration for step in steps] == list(range(1, 8))
    assert [step.state.iteration for step in steps if step.losses is not None] == [1, 3, 6, 7]
    assert [step.outcome for step in steps] == [None] * 6 + [Outcome.FINISHED]


def test_steps_as_the_condenser_does():
    *_, last = iterate(condenser_of(iterations=4))
    assert torch.equal(last.state.pixels_KSCHW, run_steps(condenser_of(iterations=4), 4).pixels_KSCHW)


def test_losses_are_those_of_the_condenser():
    (step, *_), condenser = iterate(condenser_of(iterations=2)), condenser_of(iterations=2)
    expected, _ = condenser.gradient(condenser.init().pixels_KSCHW, 0, real_term=True)
    assert_close(step.losses, expected)


def test_resumes_from_a_state():
    state = run_steps(condenser_of(), 4)
    assert [step.state.iteration for step in iterate(condenser_of(), state)] == [5, 6]


def test_a_finished_state_yields_nothing():
    assert list(iterate(condenser_of(), run_steps(condenser_of(), 6))) == []


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_names_class_and_iteration(monkeypatch, bad):
    calls, real = [], m3d.passes.mmd2

    def breaking(*arguments, **options):
        calls.append(1)
        value = real(*arguments, **options)
        return value * torch.tensor([1.0, bad if len(calls) > 3 else 1.0, 1.0])

    monkeypatch.setattr(m3d.passes, "mmd2", breaking)
    condenser = condenser_of((2, 5, 7), iterations=20, log_every=6, learning_rate=0.25)
    # From then on the pixels of that class are broken, those of the others are not. The loop checks at log iterations.
    with pytest.raises(NotFiniteError) as error:
        list(iterate(condenser))
    assert len(calls) == 6
    message = str(error.value)
    assert message.startswith(
        "the loss of class 5 is not finite at iteration 3 (condense.learning_rate=0.25, kernel.name=gaussian"
    )
    assert "\n" not in message
    assert "try a smaller learning rate" in message


def test_an_overflowing_polynomial_is_noticed():
    # (x.y + 1)^2 of features near 1e10 is above the largest float32.
    condenser = condenser_of(kernel=Kernel(name="polynomial"))
    condenser.warm_up(condenser.init())  # draws the encoder of the first iterations
    with torch.no_grad():
        condenser._passes.network.get_parameter("norms.1.weight").fill_(1e15)
    try:
        with pytest.raises(NotFiniteError, match=r"class 0 is not finite at iteration 0 .*kernel\.name=polynomial"):
            list(iterate(condenser))
    finally:
        m3d.passes.forget_passes()


def test_condense_reduces_the_loss():
    images, labels = data()
    settings = {
        "images_per_class": 2,
        "iterations": 150,
        "learning_rate": 0.5,
        "precision": "float32",
        "batch_real": 20,
    }
    condensed = m3d.condense(images, labels, encoder=SMALL, device="cpu", **settings)
    assert condensed.images_KSCHW.shape == (3, 2, 3, 8, 8)
    assert condensed.class_ids == (0, 1, 2)
    assert condensed.views()[0].shape == (24, 3, 8, 8)
    judge = condenser_of(batch_real=20, images_per_class=2)

    def loss(pixels):  # over encoders and draws that the condensation has not used
        return torch.stack([judge.gradient(pixels, i, real_term=True)[0] for i in range(10_000, 10_020, 2)]).mean(0)

    before, after = loss(judge.init().pixels_KSCHW), loss(condensed.images_KSCHW)
    assert bool((after < 0.85 * before).all())


def test_condense_accepts_settings_and_seed():
    images, labels = data()
    options = {
        "encoder": SMALL,
        "device": "cpu",
        "precision": "float32",
        "images_per_class": 2,
        "iterations": 2,
        "factor": 1,
    }
    one, same, other = (m3d.condense(images, labels, seed=seed, **options) for seed in (1, 1, 2))
    assert torch.equal(one.images_KSCHW, same.images_KSCHW)
    assert not torch.equal(one.images_KSCHW, other.images_KSCHW)
    assert one.factor == 1
    assert (one.mean, one.std) == moments(images)


def test_exception_gap_in_the_labels():
    images, labels = data()
    with pytest.raises(
        ConfigError, match="labels: none of the images has label 1; labels must be 0 to 2 without a gap"
    ):
        m3d.condense(images[labels != 1], labels[labels != 1], iterations=1)
    with pytest.raises(ConfigError, match="none of the images has label 2; labels must be 0 to 1099511627776"):
        m3d.condense(images, torch.where(labels == 2, 2**40, labels), iterations=1)


def test_exception_too_few_images():
    images, labels = data(count=3)
    with pytest.raises(ConfigError, match="class 0: has 3 images, needed 4"):
        m3d.condense(images, labels, iterations=1, encoder=SMALL)


def test_moments():
    images, _ = data()
    mean, std = moments(images)
    for channel in range(3):
        values = images[:, channel].double().flatten() / 255
        assert mean[channel] == pytest.approx(float(values.mean()))
        assert std[channel] == pytest.approx(float((values - values.mean()).square().mean().sqrt()))
    assert moments(torch.zeros(2, 1, 4, 4, dtype=torch.uint8))[1] == (1 / 255,)  # nothing is divided by 0


def test_defaults_are_the_papers():
    config = Condense()
    assert (config.iterations, config.iterations_per_model, config.batch_real) == (10_000, 5, 128)
    assert (config.batch_synthetic_max, config.factor, config.momentum, config.step_size) == (200, 2, 0.5, 1.0)
    assert Condense(images_per_class=50).step_size == 50.0
    assert (config.pixel_step, config.start, Kernel().scales, Kernel().scale_factor) == ("reference", "mix", 5, 2.0)
    assert Condense(images_per_class=100).views == 200
    assert Condense(images_per_class=10, factor=3).views == 90
