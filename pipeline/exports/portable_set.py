"""A condensed set between our shards and a file of another format: images of the same number for every class, in class order."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from m3d import Condensed
from pipeline.errors import UserError, listed
from pipeline.exports.incoming import Incoming
from pipeline.formats.condensed_reader import ClassEntry, CondensedDataset


@dataclass(frozen=True, kw_only=True)
class PortableSet:
    """The images of a set with what a reader needs to train on them."""

    images: Tensor
    """float32 in [0, 1], shape [n, C, H, W], class by class."""
    classes: tuple[ClassEntry, ...]
    """Label, name and WordNet id of every class, in label order."""
    factor: int
    """Every image consists of ``factor`` x ``factor`` tiles; 1 if they were decoded."""
    mean: tuple[float, ...]
    """Mean of the real images per channel."""
    std: tuple[float, ...]
    """Standard deviation of the real images per channel."""

    @property
    def labels(self) -> Tensor:
        """Label of every image, int64 [n]."""
        return torch.arange(len(self.classes)).repeat_interleave(self.per_class)

    @property
    def names(self) -> list[str]:
        """Names of the classes in label order."""
        return [entry["name"] for entry in self.classes]

    @property
    def per_class(self) -> int:
        """Number of images of every class."""
        return len(self.images) // len(self.classes)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    def condensed(self) -> Condensed:
        """The same set as the pipeline holds it."""
        count = len(self.classes)
        return Condensed(
            images_KSCHW=self.images.view(count, self.per_class, *self.shape),
            class_ids=tuple(range(count)),
            factor=self.factor,
            mean=self.mean,
            std=self.std,
        )


def portable(dataset: CondensedDataset, classes: Sequence[ClassEntry], *, decode: bool) -> PortableSet:
    """Returns a set that was loaded, with its views decoded or with its images as they are stored."""
    stored = dataset.stored
    images = stored.views(normalise=False)[0] if decode else stored.images_KSCHW.flatten(0, 1)
    return PortableSet(
        images=images.contiguous(),
        classes=tuple(classes),
        factor=1 if decode else stored.factor,
        mean=stored.mean,
        std=stored.std,
    )


def sorted_by_class(incoming: Incoming, classes: int, path: str) -> Tensor:
    """Returns the images of a file, class by class, each class in the order of the file.

    Args:
        incoming: the content of the file.
        classes: number of classes.
        path: the file, for messages.

    Raises:
        UserError: a class has no image, classes have different numbers of images, or the images are not those of a
            condensed set.
    """
    images, labels = incoming.images, incoming.labels
    channels, height, width = images.shape[1:] if images.ndim == 4 else (0, 0, 0)
    if channels not in (1, 3) or height != width or not 4 <= height <= 4096:
        raise UserError(
            f"{path}: holds images of shape {list(images.shape[1:])}; allowed: [C, H, W] with 1 or 3 channels, square, 4 to 4096 px"
        )
    if not bool(torch.isfinite(images).all()):
        raise UserError(f"{path}: holds pixels that are not finite")
    if len(labels) == 0 or int(labels.min()) < 0 or int(labels.max()) >= classes:
        raise UserError(f"{path}: its labels are not those of {classes} classes, 0 to {classes - 1}")
    counts = torch.bincount(labels, minlength=classes)
    if int(counts.min()) != int(counts.max()):
        few, many = int(counts.argmin()), int(counts.argmax())
        raise UserError(
            f"{path}: class {few} has {counts[few]} images, class {many} has {counts[many]}; a condensed set has the same number of every "
            f"class{_advice(incoming, classes)}"
        )
    return images[labels.argsort(stable=True)].contiguous()


def _advice(incoming: Incoming, classes: int) -> str:
    found = incoming.names
    if found is not None and len(found) != classes:
        return f" (found the classes {listed(found, 5)})"
    return ""
