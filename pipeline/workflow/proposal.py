"""What ``init`` proposes for a folder of images, from a look at it: source, sizes, encoder, schedule. No Ray here."""

import itertools
import statistics
from dataclasses import dataclass, replace

import torch

from pipeline import storage
from pipeline.config import presets
from pipeline.config.run_config import Data, RunConfig
from pipeline.data.decode_image import channels_of, size_of
from pipeline.data.prepare import absolute_path
from pipeline.data.shard_plan import Selection, select
from pipeline.data.shown_image import BadImageError
from pipeline.data.source_report import lines_of
from pipeline.errors import UserError
from pipeline.runtime.speed import measured_flops
from pipeline.workflow.expected import condense_work, evaluate_work

TORCHVISION = {
    "cifar-10-batches-py": "CIFAR10",
    "cifar-100-python": "CIFAR100",
    "FashionMNIST": "FashionMNIST",
    "MNIST": "MNIST",
}
"""Folders by which torchvision's root for a data set is recognised."""
SAMPLED_CLASSES, SAMPLED_IMAGES = 8, 4
"""Classes whose images are looked at, and the images of each."""
SIDES = ((16, "convnet3"), (32, "convnet3"), (64, "convnet4"), (128, "convnet5"))
"""Sides of prepared images, and the encoder for each."""
LARGEST_ON_A_CPU = 64
"""Largest side that is proposed without a GPU."""
MOST_ENLARGED = 1.25
"""Most that images are enlarged by: those of 28 px are prepared at 32 px, not at 16 px."""
BUDGET_S = 900.0
"""Seconds of a run that is proposed."""
GPU_FLOPS = 1e13
"""Operations per second of a GPU, which is not measured here."""
ITERATIONS = (100, 300, 1000, 3000, 10_000)
"""Iterations that are proposed; the last is the published number."""


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """A configuration, and the reasons for it."""

    config: RunConfig
    found: tuple[str, ...]
    """Lines on what was found in the folder."""
    reasons: tuple[str, ...]
    """A line for each choice."""
    seconds: float | None
    """Rough duration of the run on the CPUs of this machine; None if it has a GPU, which is not measured here."""


def propose(path: str, images_per_class: int | None = None) -> Proposal:
    """Looks at a folder and proposes settings for it. Decodes the headers of a few images and writes nothing.

    Args:
        path: of the folder, local or a URL.
        images_per_class: condensed images per class; None chooses.

    Raises:
        UserError: there is no folder, it has no images in classes, or a class has too few images.
    """
    data = absolute_path(_source(path))
    selection = select(data)
    side, channels = _images(selection)
    smallest = min(selection.counts["train"])
    has_gpu = torch.cuda.is_available()
    fitting = [each for each in SIDES if each[0] <= max(MOST_ENLARGED * side, SIDES[0][0])]
    size, encoder = fitting[-1] if has_gpu else [each for each in fitting if each[0] <= LARGEST_ON_A_CPU][-1]
    factor, count = _factor_and_count(smallest, images_per_class)
    base = presets.preset("photos_ipc1")
    config = replace(
        base,
        data=replace(base.data, source=data.source, name=data.name, path=data.path, image_size=size, channels=channels),
        encoder=replace(base.encoder, name=encoder),
        condense=replace(base.condense, images_per_class=count, factor=factor),
        evaluate=replace(base.evaluate, architectures=(encoder,), epochs=100 if count < 10 else 30),
    )
    flops = GPU_FLOPS if has_gpu else _flops(config)
    config = _scheduled(config, len(selection.names), flops * BUDGET_S)
    return Proposal(
        config=config,
        found=tuple(lines_of(selection.report(data))),
        reasons=_reasons(config, side, smallest, has_gpu),
        seconds=None if has_gpu else _work(config, len(selection.names)) / flops,
    )


def _source(path: str) -> Data:
    """The source that the files of a folder suggest. Raises UserError if there is no such folder."""
    if not storage.exists(storage.absolute(path)):
        raise UserError(f"{path}: does not exist; give the folder of the images")
    folder = storage.absolute(path)
    for name, title in TORCHVISION.items():
        if storage.is_local(path) and storage.exists(storage.join(folder, name)) and not _has_images(folder, name):
            return Data(source="torchvision", name=title, path=folder)
    for source, ending in (("parquet", ".parquet"), ("webdataset", ".tar")):
        if folder.endswith(ending) or storage.files_below(folder, ending):
            return Data(source=source, path=folder)
    return Data(source="image_folder", path=folder)


def _has_images(folder: str, name: str) -> bool:
    """Whether a folder called like one of torchvision's is a class of images instead."""
    return any(storage.files_below(storage.join(folder, name), ending) for ending in (".png", ".jpg", ".jpeg"))


def _images(selection: Selection) -> tuple[int, int]:
    """Median of the shorter sides of a few images, and whether they have 1 or 3 channels. Raises UserError if none can be read."""
    sides, channels = [], set()
    labels = selection.labels[:: max(1, len(selection.labels) // SAMPLED_CLASSES)][:SAMPLED_CLASSES]
    most = SAMPLED_IMAGES * len(labels)
    for item in itertools.islice(selection.source.read("train", labels, SAMPLED_IMAGES), most):
        try:
            sides.append(min(size_of(item.content)))
            channels.add(channels_of(item.content))
        except BadImageError:
            continue
    if not sides:
        raise UserError("none of the first images can be decoded; look at the folder with prepare --look")
    return int(statistics.median(sides)), max(channels)


def _factor_and_count(smallest: int, wanted: int | None) -> tuple[int, int]:
    """Factor and images per class that the smallest class has enough real images for. Raises UserError if none fit."""
    for factor in (2, 1):
        count = wanted if wanted is not None else (10 if smallest >= 20 * 10 * factor**2 else 1)
        if smallest >= count * factor**2:
            return factor, count
    raise UserError(
        f"--images-per-class {wanted}: the smallest class has {smallest} training images; give at most {smallest}"
        if wanted
        else "the smallest class has no training image; leave it out with data.classes"
    )


def _scheduled(config: RunConfig, classes: int, work: float) -> RunConfig:
    """The configuration with as many iterations as some operations allow."""
    best = config
    for iterations in ITERATIONS:
        condense = replace(config.condense, iterations=iterations, log_every=max(10, iterations // 100))
        longer = replace(config, condense=condense)
        if _work(longer, classes) <= work:
            best = longer
    return best


def _work(config: RunConfig, classes: int) -> float:
    """Operations of a run."""
    channels = config.data.channels or 3
    return condense_work(config, classes, channels) + evaluate_work(config, classes, channels)


def _flops(config: RunConfig) -> float:
    """Operations per second on the CPUs of this machine."""
    return measured_flops(config.encoder, config.data.channels or 3, config.data.image_size) * torch.get_num_threads()


def _reasons(config: RunConfig, side: int, smallest: int, has_gpu: bool) -> tuple[str, ...]:
    data, condense = config.data, config.condense
    device = "a GPU" if has_gpu else "no GPU"
    return (
        f"data.source={data.source}",
        f"data.image_size={data.image_size}: the shorter side of the images is {side} px (median of a few), and this machine has {device}",
        f"encoder.name={config.encoder.name}: the usual network for {data.image_size} px",
        f"condense.images_per_class={condense.images_per_class}, condense.factor={condense.factor}: the smallest class has {smallest} "
        f"training images, {condense.images_per_class * condense.factor**2} are needed to start",
        f"condense.iterations={condense.iterations}: what fits in about {BUDGET_S / 60:.0f} min here, but at least {ITERATIONS[0]}; "
        f"{ITERATIONS[-1]} are published",
    )
