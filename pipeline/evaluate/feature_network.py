"""The network in whose features herding and k-center choose: trained on real images on first need, then kept.

    OUT/feature-network.safetensors    weights, and what they follow from

It is the run's own encoder architecture, trained for a short schedule of its own on at most ``IMAGES_PER_CLASS`` images
of every class, fewer where they would not fit into memory, which suffices to tell near from far. Another training set or another schedule trains it anew. No Ray here.
"""

import json
from typing import Any

import torch

from m3d import Augment, Train, Trainer, standardise
from m3d.backend.execution import training_flops, with_compiler
from m3d.backend.precision import resolve
from m3d.encoders import Network, build
from m3d.seeding import derive, generator
from pipeline import storage
from pipeline.config.run_config import RunConfig
from pipeline.data.prepared_dataset import PreparedDataset
from pipeline.evaluate.results import training_settings
from pipeline.storage.tensors import read_tensors, write_tensors

FILE = "feature-network.safetensors"
IMAGES_PER_CLASS = 1000
BYTES = 4 * 2**30
"""That all its training images take at most, as float32: 71 of each class of ImageNet-100 at 224 px."""
SCHEDULE = Train(epochs=10, batch=128, augment=Augment(strategy="color_crop"), milestones=(0.6, 0.8))


def trained(config: RunConfig, out: str, cache: PreparedDataset, device: torch.device | str = "cpu") -> Network:
    """The feature network of a run, in evaluation mode on the device.

    Args:
        config: of the run; its encoder's name is the architecture.
        out: the run's folder.
        cache: the real images.
        device: where it is trained and where it lives.
    """
    told = fingerprint(config, cache)
    path = storage.join(out, FILE)
    network = _stored(path, told, config, cache)
    if network is None:
        network = _train(config, cache, torch.device(device))
        weights = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
        write_tensors(path, weights, {"fingerprint": told, "about": json.dumps(_about(config, cache))})
    return network.to(device).eval()


def fingerprint(config: RunConfig, cache: PreparedDataset) -> str:
    """A checksum of all that the weights follow from."""
    return storage.sha256(json.dumps(_about(config, cache), sort_keys=True).encode())[:32]


def images_per_class(cache: PreparedDataset) -> int:
    """Most training images of a class."""
    channels, height, width = cache.manifest["shape"]
    return max(1, min(IMAGES_PER_CLASS, BYTES // (len(cache.classes) * channels * height * width * 4)))


def _about(config: RunConfig, cache: PreparedDataset) -> dict[str, Any]:
    return {
        "architecture": config.encoder.name,
        "training": training_settings(SCHEDULE),
        "images_per_class": images_per_class(cache),
        "seed": config.seed,
        "class_shards": cache.seal,
        "held_out": [cache.data.validation_fraction, cache.data.split_seed],
    }


def _train(config: RunConfig, cache: PreparedDataset, device: torch.device) -> Network:
    mean, std = cache.moments
    parts, most = [], images_per_class(cache)
    for entry in cache.classes:
        images = cache.train(entry["label"])
        order = torch.randperm(len(images), generator=generator(config.seed, "feature-network", entry["label"]))
        parts.append(standardise(images[order[:most]].float() / 255, mean, std))
    labels = torch.cat([torch.full((len(part),), label) for label, part in enumerate(parts)])
    images = torch.cat(parts).to(device)
    classes = len(parts)
    parts.clear()
    channels, height, width = images.shape[1:]
    flops = training_flops(SCHEDULE.epochs, config.encoder.name, len(images), (channels, height, width))

    def train(compiled: bool) -> Network:
        trainer = Trainer(
            config.encoder.name,
            images.shape[1:],
            classes=classes,
            precision=resolve("auto", device),
            compiled=compiled,
            device=device,
        )
        return trainer.train(images, labels, config=SCHEDULE, seed=derive(config.seed, "feature-network"))

    return with_compiler(train, config.evaluate.compile, flops, device, key="evaluate.compile")


def _stored(path: str, told: str, config: RunConfig, cache: PreparedDataset) -> Network | None:
    """The network of a file, or None where there is none, it is damaged, or it is of other images."""
    file = read_tensors(path)
    if file is None or file.metadata.get("fingerprint") != told:
        return None
    channels, height, _ = cache.manifest["shape"]
    network = build(
        config.encoder.name,
        channels=channels,
        image_size=height,
        classes=len(cache.classes),
        generator=generator(0, "feature-network"),
    )
    try:
        network.load_state_dict(file.tensors)
    except RuntimeError:
        return None  # a damaged one costs its training
    return network
