"""Class shards on the reading side: memory-mapped images of single classes, and the validation split.

Shards in a bucket are copied to the local disk first, those of the classes that are asked for and no others.
"""

import warnings
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from m3d import ImageParts, TestSet
from m3d.seeding import derive
from pipeline import storage
from pipeline.config.run_config import Data
from pipeline.data.disk_cache import forget, open_shard
from pipeline.data.shard_manifest import PreparedClass, PreparedManifest, PreparedSplit
from pipeline.errors import UserError
from pipeline.formats.arrow_schema import MANIFEST
from pipeline.storage.documents import SEAL, read_document


class PreparedDataset:
    """A folder of class shards. Only what is asked for is read, by memory map."""

    def __init__(self, folder: str, data: Data) -> None:
        """Args: the folder with its manifest, and the settings of the validation split."""
        self.folder, self.data = folder, data
        path = storage.join(folder, MANIFEST)
        try:
            self.manifest = read_document(PreparedManifest, path)
        except FileNotFoundError:
            raise UserError(
                f"{folder}: holds no finished class shards (no {MANIFEST}); run `python -m pipeline prepare`"
            ) from None

    @property
    def key(self) -> str:
        """Name of the folder: a checksum of the source and of all that the pixels depend on."""
        return self.folder.rsplit("/", 1)[-1]

    @property
    def classes(self) -> list[PreparedClass]:
        """label, name and wnid of every class, in label order."""
        return self.manifest["classes"]

    @property
    def seal(self) -> str:
        """The checksum of the manifest, and by it of all shards."""
        return dict[str, Any](self.manifest).get(SEAL, "")

    @property
    def moments(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation per channel over all training images."""
        return tuple(self.manifest["mean"]), tuple(self.manifest["std"])

    def train(self, label: int) -> Tensor:
        """Training images of a class, uint8 [n, C, H, W], without those held out for validation."""
        images = self.images("train", label)
        held_out = self._validation_rows(label, len(images))
        if not len(held_out):
            return images
        kept = np.setdiff1d(np.arange(len(images)), held_out)
        return images[torch.from_numpy(kept)]

    def test_set(self, on: Literal["test", "validation"] = "test", labels: Sequence[int] | None = None) -> TestSet:
        """All test images, or with ``on="validation"`` those held out of training.

        With ``labels`` those of some classes, which are then numbered 0, 1, ... in the order given.
        """
        chosen = [entry["label"] for entry in self.classes] if labels is None else labels
        parts = [self._held(on, label) for label in chosen]
        numbers = torch.cat([torch.full((len(part),), i, dtype=torch.int64) for i, part in enumerate(parts)])
        mean, std = self.moments
        return TestSet(images=torch.cat(parts), labels=numbers, mean=mean, std=std, classes=len(parts))

    def _held(self, on: Literal["test", "validation"], label: int) -> Tensor:
        if on == "test":
            return self.images("test", label)
        images = self.images("train", label)
        return images[torch.from_numpy(self._validation_rows(label, len(images)))]

    def _validation_rows(self, label: int, count: int) -> np.ndarray:
        held_out = round(count * self.data.validation_fraction)
        random = np.random.default_rng(derive(self.data.split_seed, "validation", label))
        return np.sort(random.permutation(count)[:held_out])

    def images(self, split: Literal["train", "test"], label: int) -> Tensor:
        """All images of a class's shard, its checksum compared. Raises UserError where it is damaged."""
        parts = self._batches(split, label)
        return _shared(parts[0] if len(parts) == 1 else np.concatenate(parts))

    def train_parts(self, label: int, *, must_map: bool = False) -> ImageParts:
        """Like ``train``, but nothing is copied into memory: the images stay where the shard is mapped.

        A shard in a bucket without room for a local copy is in memory all the same, unless it must be mapped.
        """
        parts = [_shared(part) for part in self._batches("train", label, must_map=must_map)]
        count = sum(map(len, parts))
        held_out = self._validation_rows(label, count)
        kept = torch.from_numpy(np.setdiff1d(np.arange(count), held_out)) if len(held_out) else None
        return ImageParts(parts, kept)

    def train_bytes(self, labels: Iterable[int]) -> int:
        """Bytes of the training images of those classes."""
        rows = sum(self.classes[label]["train"]["rows"] for label in labels)
        return rows * int(np.prod(self.manifest["shape"]))

    def _batches(self, split: Literal["train", "test"], label: int, *, must_map: bool = False) -> list[np.ndarray]:
        """The images of a shard, record batch by record batch, as they are mapped."""
        entry = self.classes[label][split]
        path = storage.join(self.folder, entry["file"])
        advice = f"delete {self.folder} and run the same command again"
        try:
            file = pa.ipc.open_file(self._sound(path, entry, advice, must_map))
            parts = [file.get_batch(i).column("image").to_numpy_ndarray() for i in range(file.num_record_batches)]
        except (OSError, pa.ArrowException, KeyError, IndexError) as error:
            raise UserError(f"{path}: cannot be read ({error}); {advice}") from None
        rows = sum(map(len, parts))
        if rows != entry["rows"]:
            raise UserError(f"{path}: has {rows} images, the manifest says {entry['rows']}; {advice}")
        return parts

    def _sound(self, path: str, entry: PreparedSplit, advice: str, must_map: bool) -> pa.NativeFile:
        """An input whose checksum is the manifest's."""
        for _ in range(2):
            source = open_shard(path, entry["sha256"], self.data, must_map=must_map)
            if storage.sha256(source.read_buffer()) == entry["sha256"]:
                return source
            if not forget(path, entry["sha256"], self.data):  # a copy may be damaged where the shard is not
                break
        raise UserError(f"{path}: its checksum is not the manifest's, the file is damaged; {advice}")


def _shared(array: np.ndarray) -> Tensor:
    # torch warns that it knows no read-only tensors; nothing here writes to one.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return torch.from_numpy(array)
