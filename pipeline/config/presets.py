"""Presets: functions that return a complete RunConfig, by name in ``PRESETS``.

The presets of MNIST and CIFAR follow the published schedule (M3D: 10,000 iterations, 5 per model, 128 real images,
factor 2, learning rate = images per class). Those of ImageNet have the same schedule. At 224 px their image size,
encoder and factor are IDC's; at 128 px they are those of MTT's subsets, for which M3D has published no settings. digits
is this project's own example, small enough for a CPU, and photos a short schedule for folders of one's own.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from m3d.config import Condense, Encoder
from pipeline.config.evaluate import Evaluate
from pipeline.config.run_config import Data, Pretrain, RunConfig
from pipeline.errors import UserError, nearest

DEFAULT = "digits_ipc1"


def digits(images_per_class: int) -> RunConfig:
    """scikit-learn's 1,797 handwritten digits, enlarged from 8 to 16 px: a run of under a minute on two cores."""
    return RunConfig(
        data=Data(source="digits", image_size=16),
        condense=Condense(images_per_class=images_per_class, iterations=60, log_every=10),
        evaluate=Evaluate(epochs=100, flip=False),
        pretrain=Pretrain(epochs=20, augment="crop", report_every=5),
    )


def photos(images_per_class: int) -> RunConfig:
    """A folder of photos at 64 px: ConvNet-4 and a schedule of minutes on a laptop for a few classes."""
    base = _folder(
        64, "convnet4", Condense(images_per_class=images_per_class, iterations=100, batch_real=32, log_every=10)
    )
    return replace(base, evaluate=replace(base.evaluate, epochs=100 if images_per_class < 10 else 30))


def mnist(images_per_class: int) -> RunConfig:
    """MNIST at 28 px."""
    return RunConfig(
        data=Data(source="torchvision", name="MNIST", image_size=28),
        condense=Condense(images_per_class=images_per_class),
        evaluate=Evaluate(flip=False),
        pretrain=Pretrain(epochs=5, augment="crop", snapshot_every=1),
    )


def cifar10(images_per_class: int) -> RunConfig:
    """CIFAR-10 at 32 px."""
    return RunConfig(
        data=Data(source="torchvision", name="CIFAR10", image_size=32),
        condense=Condense(images_per_class=images_per_class),
    )


def cifar100(images_per_class: int) -> RunConfig:
    """CIFAR-100 at 32 px, with the settings of CIFAR-10."""
    base = cifar10(images_per_class)
    return replace(base, data=replace(base.data, name="CIFAR100"))


def tiny_imagenet(images_per_class: int) -> RunConfig:
    """Tiny-ImageNet, or some of its classes, at 64 px: ConvNet-4, the schedule of CIFAR-10."""
    return _folder(64, "convnet4", Condense(images_per_class=images_per_class))


def imagenet_at_128(subset: str, images_per_class: int) -> RunConfig:
    """One of MTT's subsets of ten classes at 128 px: ConvNet-5, factor 2."""
    base = _folder(128, "convnet5", Condense(images_per_class=images_per_class))
    return replace(base, data=replace(base.data, subset=subset))


def imagenet_at_224(subset: str, classes: int, images_per_class: int) -> RunConfig:
    """IDC's subsets at 224 px: ResNetAP-10, factor 3, IDC's training schedule for ImageNet."""
    base = _folder(224, "resnetap10", Condense(images_per_class=images_per_class, factor=3))
    evaluate = replace(base.evaluate, protocol="imagenet100" if classes >= 100 else "imagenet")
    return replace(base, data=replace(base.data, subset=subset), evaluate=evaluate)


def _folder(size: int, network: str, condense: Condense) -> RunConfig:
    return RunConfig(
        data=Data(source="image_folder", image_size=size, channels=3),
        encoder=Encoder(name=network),
        condense=condense,
        evaluate=Evaluate(architectures=(network,)),
    )


_FAMILIES: dict[str, tuple[Callable[[int], RunConfig], tuple[int, ...]]] = {
    "digits": (digits, (1, 10)),
    "photos": (photos, (1, 10)),
    "mnist": (mnist, (1, 10, 50)),
    "cifar10": (cifar10, (1, 10, 50)),
    "cifar100": (cifar100, (1, 10, 50)),
    "tiny_imagenet": (tiny_imagenet, (1, 10, 50)),
    **{
        name: (partial(imagenet_at_128, name), (1, 10))
        for name in ("imagenette", "imagewoof", "imagefruit", "imagemeow", "imagesquawk", "imageyellow")
    },
    "imagenet10": (partial(imagenet_at_224, "imagenet10", 10), (10, 20)),
    "imagenet100": (partial(imagenet_at_224, "imagenet100", 100), (10, 20)),
}

PRESETS: dict[str, tuple[Callable[[int], RunConfig], int]] = {
    f"{name}_ipc{images}": (make, images) for name, (make, counts) in _FAMILIES.items() for images in counts
}


def preset(name: str) -> RunConfig:
    """The complete configuration of a preset. Raises UserError with the nearest name."""
    if name not in PRESETS:
        raise UserError(f"--preset {name}: unknown, allowed: {', '.join(PRESETS)}{nearest(name, PRESETS)}")
    make, images = PRESETS[name]
    return make(images)


def families() -> list[str]:
    """The presets in short: ``mnist_ipc{1,10,50}`` stands for three of them."""
    return [f"{name}_ipc{{{','.join(map(str, counts))}}}" for name, (_, counts) in _FAMILIES.items()]
