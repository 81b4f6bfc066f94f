"""The network by whose features herding and k-center select: trained on real images when first needed, then stored.

    OUT/feature-network.safetensors    weights, and what determines them

It has the architecture of the run's encoder and a short schedule of its own. It is trained on at most
``IMAGES_PER_CLASS`` images of every class, or on fewer if those do not fit into memory, which suffices to tell near images
from far ones. It is trained again if the training images or the schedule change. No Ray here.
"""

import json

import torch

from m3d import Augment, Train, Trainer, standardise
from m3d.backend.execution import training_flops, with_compiler
from m3d.backend.precision import resolve
from m3d.encoders import Network, build
from m3d.seeding import derive, generator
from pipeline import storage
from pipeline.config.run_config import RunConfig
from pipeline.data.prepared_dataset import PreparedDataset
from pipeline.evaluate.rows import training_settings
from pipeline.formats.run_folder import RunFolder
from pipeline.storage.tensors import read_tensors, write_tensors

IMAGES_PER_CLASS = 1000
"""Most training images of a class."""
BYTES = 4 * 2**30
"""Most bytes of all training images as float32: 71 images of each class of ImageNet-100 at 224 px."""
SCHEDULE = Train(epochs=10, batch=128, augment=Augment(strategy="color_crop"), milestones=(0.6, 0.8))


def trained(
    config: RunConfig, folder: RunFolder, dataset: PreparedDataset, device: torch.device | str = "cpu"
) -> Network:
    """The feature network of a run, in evaluation mode on the device.

    Args:
        config: configuration of the run; ``encoder.name`` is the architecture.
        folder: folder of the run.
        dataset: the real images.
        device: device that trains the network and that it is returned on.
    """
    network = stored_network(config, folder, dataset)
    if network is None:
        network = _train(config, dataset, torch.device(device))
        weights = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
        about = json.dumps(_about(config, dataset))
        write_tensors(folder.feature_network, weights, {"fingerprint": fingerprint(config, dataset), "about": about})
    return network.to(device).eval()


def fingerprint(config: RunConfig, dataset: PreparedDataset) -> str:
    """A checksum of everything that determines the weights."""
    return storage.sha256(json.dumps(_about(config, dataset), sort_keys=True).encode())[:32]


def images_per_class(dataset: PreparedDataset) -> int:
    """Most training images of a class that are used, given the memory that all classes take."""
    channels, height, width = dataset.manifest["shape"]
    return max(1, min(IMAGES_PER_CLASS, BYTES // (len(dataset.classes) * channels * height * width * 4)))


def _about(config: RunConfig, dataset: PreparedDataset) -> dict[str, object]:
    return {
        "architecture": config.encoder.name,
        "training": training_settings(SCHEDULE),
        "images_per_class": images_per_class(dataset),
        "seed": config.seed,
        "class_shards": dataset.seal,
        "held_out": [dataset.data.validation_fraction, dataset.data.split_seed],
    }


def _train(config: RunConfig, dataset: PreparedDataset, device: torch.device) -> Network:
    mean, std = dataset.moments
    parts, most = [], images_per_class(dataset)
    for entry in dataset.classes:
        images = dataset.train(entry["label"])
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


def stored_network(config: RunConfig, folder: RunFolder, dataset: PreparedDataset) -> Network | None:
    """The stored network on the CPU, or None if there is none, it is damaged, or it was trained otherwise."""
    file = read_tensors(folder.feature_network)
    if file is None or file.metadata.get("fingerprint") != fingerprint(config, dataset):
        return None
    channels, height, _ = dataset.manifest["shape"]
    network = build(
        config.encoder.name,
        channels=channels,
        image_size=height,
        classes=len(dataset.classes),
        generator=generator(0, "feature-network"),
    )
    try:
        network.load_state_dict(file.tensors)
    except RuntimeError:
        return None
    return network
