"""torchvision's small data sets from a local root: MNIST, FashionMNIST, SVHN, CIFAR10, CIFAR100."""

import hashlib
from collections import Counter
from collections.abc import Collection, Iterator
from functools import lru_cache

import numpy as np

from pipeline import storage
from pipeline.config.run_config import Data
from pipeline.data.sources.findings import Findings
from pipeline.data.sources.protocol import Item, SourceIndex, SourceListing, fingerprint, places
from pipeline.errors import UserError, nearest

NAMES = ("MNIST", "FashionMNIST", "SVHN", "CIFAR10", "CIFAR100")
Split = tuple[np.ndarray, np.ndarray, tuple[str, ...]]
"""Pixels uint8 [n, H, W] or [n, H, W, C], labels [n], and names of the classes."""


class TorchvisionSet:
    """Pixels and labels of a data set that torchvision loads completely; a few hundred megabytes at most."""

    def __init__(self, data: Data, listing: SourceListing | None = None) -> None:
        if data.path is not None and not storage.is_local(data.path):
            raise UserError(
                f"data.path: given {data.path!r}; torchvision reads local folders only: copy it there, or store the data as parquet"
            )
        if data.name not in NAMES:
            near = nearest(data.name or "", NAMES)
            raise UserError(
                f"data.name: given {data.name!r}, allowed with data.source=torchvision: {', '.join(NAMES)}{near}"
            )
        if data.path is None:
            raise UserError(
                f"data.path: not given, needed for data.source=torchvision; pass --data ROOT of {data.name} (data.download=true fetches it)"
            )
        self.name, self.root, self.download = data.name, data.path, data.download

    def index(self) -> SourceIndex:
        splits = {split: self._load(split) for split in ("train", "test")}
        counts = {split: Counter(labels.tolist()) for split, (_, labels, _) in splits.items()}
        names = splits["train"][2]
        images = sum(count.total() for count in counts.values())
        return SourceIndex(
            class_names=names,
            counts={split: tuple(count[i] for i in range(len(names))) for split, count in counts.items()},
            fingerprint=fingerprint("torchvision", self.name, *map(_digest, splits.values())),
            encoded=False,
            findings=Findings(
                found=images, taken=images, splits={split: f"the {split} split of {self.name}" for split in splits}
            ),
        )

    def read(self, split: str, labels: Collection[int], most: int | None = None) -> Iterator[Item]:
        pixels, targets, _ = self._load(split)
        for i in places(targets, labels, most):
            yield Item(label=int(targets[i]), path=f"{self.name}/{split}[{i}]", content=pixels[i])

    def _load(self, split: str) -> Split:
        return _load(self.name, self.root, self.download, split)


def _digest(split: Split) -> str:
    pixels, labels, _ = split
    content = hashlib.sha256(pixels.tobytes())
    content.update(labels.tobytes())
    return content.hexdigest()


@lru_cache(maxsize=2)
def _load(name: str, root: str, download: bool, split: str) -> Split:
    from torchvision import datasets

    selection = {"split": split} if name == "SVHN" else {"train": split == "train"}
    try:
        dataset = getattr(datasets, name)(root, download=download, **selection)
    except (RuntimeError, OSError, EOFError, ValueError) as error:
        advice = "see the message" if download else "data.download=true fetches it"
        raise UserError(
            f"{root}: {name} was not found or is damaged there ({str(error).splitlines()[0]}); {advice}"
        ) from None
    pixels = np.asarray(dataset.data)
    if name == "SVHN":
        pixels = pixels.transpose(0, 2, 3, 1)
    targets = np.asarray(dataset.labels if name == "SVHN" else dataset.targets)
    names = tuple(map(str, getattr(dataset, "classes", range(10))))
    return pixels, targets, names
