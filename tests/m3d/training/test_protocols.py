"""The evaluation protocols against the published settings."""

import pytest

from m3d import Evaluate, imagenet_epochs, training_of


def test_protocol_idc():
    config = training_of(Evaluate(protocol="idc"))
    assert (config.epochs, config.batch, config.learning_rate, config.momentum) == (1000, 64, 0.01, 0.9)
    assert (config.weight_decay, config.milestones, config.decay) == (5e-4, (2 / 3, 5 / 6), 0.2)
    assert (config.cutmix_probability, config.cutmix_beta, config.augment.pick) == (0.5, 1.0, "geometric")
    assert set(config.augment.operations) == {"color", "crop", "flip", "scale", "rotate"}
    assert (config.augment.scale_ratio, config.augment.rotate_degrees) == (1.2, 15.0)


def test_protocol_dm():
    config = training_of(Evaluate(protocol="dm"))
    assert (config.epochs, config.batch, config.learning_rate) == (1000, 256, 0.01)
    assert (config.milestones, config.decay, config.cutmix_probability) == ((0.5,), 0.1, 0.0)
    assert "cutout" in config.augment.operations


def test_protocol_imagenet():
    config = training_of(Evaluate(protocol="imagenet"))
    assert (config.cutmix_probability, config.batch, config.learning_rate) == (1.0, 64, 0.01)
    large = training_of(Evaluate(protocol="imagenet100"))
    assert (large.epochs, large.batch, large.learning_rate, large.weight_decay) == (667, 128, 0.1, 1e-4)
    assert [imagenet_epochs(n, 10) for n in (1, 4, 40, 90, 500, 900)] == [3000, 2000, 1500, 1000, 500, 300]
    assert imagenet_epochs(40, 100) == 1000


@pytest.mark.parametrize(
    ("views", "classes", "epochs"),
    [(1, 10, 3000), (9, 10, 2000), (40, 10, 1500), (90, 10, 1000), (180, 100, 667), (450, 10, 500), (1000, 10, 300)],
)
def test_epochs_of_idc_on_imagenet(views: int, classes: int, epochs: int) -> None:
    assert imagenet_epochs(views, classes) == epochs


def test_protocol_with_epochs_and_without_flip():
    config = training_of(Evaluate(epochs=30, flip=False))
    assert config.epochs == 30
    assert set(config.augment.operations) == {"color", "crop", "scale", "rotate"}


def test_protocol_without_augmentation():
    config = training_of(Evaluate(augment="none"))
    assert config.augment.operations == ()
    assert config.cutmix_probability == 0
    assert config.epochs == 1000
