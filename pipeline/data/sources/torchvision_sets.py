"""torchvision's small data sets from a local root: MNIST, FashionMNIST, SVHN, CIFAR10, CIFAR100."""

import hashlib
from collections import Counter
from collections.abc import Collection, Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np

from pipeline import storage
from pipeline.config.run_config import Data
from pipeline.data.image_formats import image_endings
from pipeline.data.sources.findings import Findings
from pipeline.data.sources.protocol import Item, SourceIndex, SourceListing, fingerprint, places
from pipeline.errors import UserError, first_line, nearest
from pipeline.formats.peers.tensor_claims import checked
from pipeline.storage.local.regular_files import read_part

NAMES = ("MNIST", "FashionMNIST", "SVHN", "CIFAR10", "CIFAR100")
LOOKED_AT = 1000
"""Most files and folders that are looked at for another source."""
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
                unit="image",
                found=images,
                taken=images,
                splits={split: f"the {split} split of {self.name}" for split in splits},
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
        _check_old_files(Path(root, name, "processed"))
        dataset = getattr(datasets, name)(root, download=download, **selection)
        pixels = np.asarray(dataset.data)
        if name == "SVHN":
            pixels = pixels.transpose(0, 2, 3, 1)
        targets = np.asarray(dataset.labels if name == "SVHN" else dataset.targets)
    except UserError:
        raise
    except (
        Exception
    ) as error:  # torchvision raises almost anything for a damaged file; it compares checksums of some only
        if not download and (source := _other_source(root)):
            raise UserError(
                f"{root}: has no {name} of torchvision, but files that data.source={source} reads; add --set data.source={source}"
            ) from None
        advice = "see the message" if download else "data.download=true fetches it"
        raise UserError(f"{root}: {name} was not found or is damaged there ({first_line(error)}); {advice}") from None
    names = tuple(map(str, getattr(dataset, "classes", range(10))))
    if pixels.dtype != np.uint8 or pixels.ndim not in (3, 4) or 0 in pixels.shape or targets.shape != pixels.shape[:1]:
        raise UserError(
            f"{root}: the {split} split of {name} is damaged: {pixels.dtype} {list(pixels.shape)} with labels "
            f"{list(targets.shape)}; fetch it again"
        )
    if not np.issubdtype(targets.dtype, np.integer) or targets.min() < 0 or targets.max() >= len(names):
        raise UserError(
            f"{root}: the {split} split of {name} has labels beyond its {len(names)} classes; fetch it again"
        )
    return pixels, targets, names


def _other_source(root: str) -> str | None:
    """The source that reads what is in a folder, if the first files in it look like one."""
    kinds = {".parquet": "parquet", ".tar": "webdataset", **dict.fromkeys(image_endings(), "image_folder")}
    for number, path in enumerate(Path(root).rglob("*")):
        if path.suffix.lower() in kinds:
            return kinds[path.suffix.lower()]
        if number >= LOOKED_AT:
            break
    return None


def _check_old_files(folder: Path) -> None:
    """Checks the files of old versions of torchvision, which it prefers to the original ones if they are there."""
    for name in ("training.pt", "test.pt"):
        if (folder / name).exists():
            checked(read_part(folder / name))
