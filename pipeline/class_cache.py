"""Class shards on the reading side: memory-mapped images of single classes, and the validation split."""

import warnings
from typing import Literal

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from m3d import TestSet
from m3d.seeding import derive
from pipeline import storage
from pipeline.config import Data
from pipeline.documents import PreparedClass, PreparedManifest, parsed
from pipeline.errors import UserError
from pipeline.shard_schema import MANIFEST


class ClassCache:
    """A folder of class shards. Only what is asked for is read, by memory map where the folder is local."""

    def __init__(self, folder: str, data: Data) -> None:
        """Args: the folder with its manifest, and the settings of the validation split."""
        self.folder, self.data = folder, data
        path = storage.join(folder, MANIFEST)
        try:
            self.manifest = parsed(PreparedManifest, storage.read_json(path), path)
        except FileNotFoundError:
            raise UserError(
                f"{folder}: holds no finished class shards (no {MANIFEST}); run `python -m pipeline prepare`"
            ) from None

    @property
    def classes(self) -> list[PreparedClass]:
        """label, name and wnid of every class, in label order."""
        return self.manifest["classes"]

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

    def test_set(self, on: Literal["test", "validation"] = "test") -> TestSet:
        """All test images, or with ``on="validation"`` those held out of training."""
        parts = [self._held(on, entry["label"]) for entry in self.classes]
        labels = torch.cat([torch.full((len(part),), i, dtype=torch.int64) for i, part in enumerate(parts)])
        mean, std = self.moments
        return TestSet(images=torch.cat(parts), labels=labels, mean=mean, std=std, classes=len(parts))

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
        entry = self.classes[label][split]
        path = storage.join(self.folder, entry["file"])
        advice = f"delete {self.folder} and run the same command again"
        try:
            source = storage.arrow_source(path)
            if storage.sha256(source.read_buffer()) != entry["sha256"]:
                raise UserError(f"{path}: its checksum is not the manifest's, the file is damaged; {advice}")
            file = pa.ipc.open_file(source)
            parts = [file.get_batch(i).column("image").to_numpy_ndarray() for i in range(file.num_record_batches)]
            array = parts[0] if len(parts) == 1 else np.concatenate(parts)
        except (OSError, pa.ArrowException, KeyError, IndexError) as error:
            raise UserError(f"{path}: cannot be read ({error}); {advice}") from None
        if len(array) != entry["rows"]:
            raise UserError(f"{path}: has {len(array)} images, the manifest says {entry['rows']}; {advice}")
        return _shared(array)


def _shared(array: np.ndarray) -> Tensor:
    # torch warns that it knows no read-only tensors; nothing here writes to one.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return torch.from_numpy(array)
