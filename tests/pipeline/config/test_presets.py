"""Presets: their names, and the published schedule."""

import pytest

from m3d import training_of
from pipeline.config.presets import DEFAULT, PRESETS, families, preset
from pipeline.errors import UserError

SMALL = [f"{name}_ipc{images}" for name in ("mnist", "cifar10", "cifar100") for images in (1, 10, 50)]
TINY = [f"tiny_imagenet_ipc{images}" for images in (1, 10, 50)]
AT_128 = [
    f"{name}_ipc{images}"
    for name in ("imagenette", "imagewoof", "imagefruit", "imagemeow", "imagesquawk", "imageyellow")
    for images in (1, 10)
]
AT_224 = [f"{name}_ipc{images}" for name in ("imagenet10", "imagenet100") for images in (10, 20)]
NAMES = ["digits_ipc1", "digits_ipc10", "photos_ipc1", "photos_ipc10", *SMALL, *TINY, *AT_128, *AT_224]
PUBLISHED = [name for name in NAMES if not name.startswith(("digits", "photos"))]


def test_names() -> None:
    assert sorted(PRESETS) == sorted(NAMES)
    assert DEFAULT == "digits_ipc1"


def test_families_stand_for_all_presets() -> None:
    expanded = []
    for family in families():
        name, counts = family.removesuffix("}").split("{")
        expanded += [f"{name}{count}" for count in counts.split(",")]
    assert expanded == list(PRESETS)


@pytest.mark.parametrize("name", NAMES)
def test_preset_has_the_images_of_its_name(name: str) -> None:
    assert preset(name).condense.images_per_class == int(name.rpartition("ipc")[2])


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_schedule(name: str) -> None:
    schedule = preset(name).condense
    assert schedule.iterations == 10_000
    assert schedule.iterations_per_model == 5
    assert schedule.batch_real == 128
    assert schedule.factor == (3 if name in AT_224 else 2)
    assert schedule.step_size == schedule.images_per_class
    networks = {"t": "convnet4", "m": "convnet3", "c": "convnet3", "i": "convnet5"}
    network = "resnetap10" if name in AT_224 else networks[name[0]]
    assert preset(name).encoder.name == network
    assert preset(name).evaluate.architectures == (network,)
    assert preset(name).kernel.name == "gaussian"


@pytest.mark.parametrize(
    ("name", "source", "image_size", "flip"),
    [
        ("mnist_ipc1", "MNIST", 28, False),
        ("cifar10_ipc1", "CIFAR10", 32, True),
        ("cifar100_ipc1", "CIFAR100", 32, True),
    ],
)
def test_data_of_the_published_presets(name: str, source: str, image_size: int, flip: bool) -> None:
    config = preset(name)
    assert (config.data.source, config.data.name, config.data.image_size) == ("torchvision", source, image_size)
    assert config.evaluate.flip is flip


@pytest.mark.parametrize("name", [*TINY, *AT_128, *AT_224])
def test_data_of_imagenet(name: str) -> None:
    config = preset(name)
    size = 64 if name in TINY else 128 if name in AT_128 else 224
    assert (config.data.source, config.data.image_size, config.data.channels) == ("image_folder", size, 3)
    assert config.data.subset == (None if name in TINY else name.rpartition("_")[0])


@pytest.mark.parametrize(
    ("name", "protocol", "epochs", "rate", "batch"),
    [("imagenet10_ipc10", "imagenet", 1000, 0.01, 64), ("imagenet100_ipc20", "imagenet100", 667, 0.1, 128)],
)
def test_schedule_of_idc_for_imagenet(name: str, protocol: str, epochs: int, rate: float, batch: int) -> None:
    config = preset(name).evaluate
    training = training_of(config)
    assert (config.protocol, training.epochs, training.learning_rate, training.batch) == (protocol, epochs, rate, batch)
    assert training.cutmix_probability == 1


@pytest.mark.parametrize(
    ("given", "near"), [("cifar10_ip1", "cifar10_ipc1"), ("digits", "digits_ipc1"), ("mnist_ipc5", "mnist_ipc50")]
)
def test_unknown_preset_names_the_nearest(given: str, near: str) -> None:
    with pytest.raises(UserError, match=f"{given}.*did you mean '{near}'"):
        preset(given)


def test_unknown_preset_lists_all() -> None:
    with pytest.raises(UserError) as caught:
        preset("xyzzy")
    assert all(name in str(caught.value) for name in NAMES)
