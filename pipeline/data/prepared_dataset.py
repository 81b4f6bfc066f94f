"""Reads class shards: memory-mapped images of single classes, and the validation split.

Shards in a bucket are copied to the local disk first, but only those of the classes that are used.
"""

import shlex
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from m3d import ImageParts, TestSet
from m3d.pulse import beat
from m3d.seeding import derive
from pipeline import storage
from pipeline.config.run_config import Data, RunConfig
from pipeline.data.disk_cache import forget, open_shard
from pipeline.data.shard_manifest import PreparedClass, PreparedManifest, PreparedSplit, seal_of
from pipeline.errors import UserError, first_line, listed
from pipeline.formats.arrow_batches import read_batches
from pipeline.formats.arrow_schema import MANIFEST, class_schema
from pipeline.formats.run_folder import RunFolder
from pipeline.storage.documents import read_document
from pipeline.storage.settings import PATHS


class PreparedDataset:
    """A folder of class shards. Opening it reads the manifest; images are read by memory map when they are asked for."""

    def __init__(self, folder: str, data: Data) -> None:
        """Args: folder of the class shards, and settings with the validation split."""
        self.folder, self.data = folder, data
        path = storage.join(folder, MANIFEST)
        try:
            self.manifest = read_document(PreparedManifest, path)
        except FileNotFoundError:
            raise UserError(
                f"{folder}: holds no finished class shards (no {MANIFEST}); run `python -m pipeline prepare`"
            ) from None
        if [entry["label"] for entry in self.classes] != list(range(len(self.classes))) or not self.classes:
            raise UserError(f"{path}: is damaged: its labels are not 0, 1, ...; delete {folder} and prepare again")

    @property
    def key(self) -> str:
        """Name of the folder: a checksum of the source and of everything else that the pixels depend on."""
        return key_of(self.folder)

    @property
    def classes(self) -> list[PreparedClass]:
        """Label, name, WordNet id and shards of every class, in label order."""
        return self.manifest["classes"]

    @property
    def seal(self) -> str:
        """Checksum of the manifest, and thereby of all shards."""
        return seal_of(self.manifest)

    @property
    def moments(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation per channel over all training images."""
        return tuple(self.manifest["mean"]), tuple(self.manifest["std"])

    @property
    def counts(self) -> dict[str, int]:
        """Number of images by split, those held out for validation included."""
        return {
            "train": sum(each["train"]["rows"] for each in self.classes),
            "test": sum(each["test"]["rows"] for each in self.classes),
        }

    def train(self, label: int) -> Tensor:
        """Returns the training images of a class, uint8 [n, C, H, W], without those held out for validation."""
        images = self.images("train", label)
        held_out = self._validation_rows(label, len(images))
        if not len(held_out):
            return images
        kept = np.setdiff1d(np.arange(len(images)), held_out)
        return images[torch.from_numpy(kept)]

    def test_set(self, on: Literal["test", "validation"] = "test", labels: Sequence[int] | None = None) -> TestSet:
        """Returns all test images, or those held out of training.

        Args:
            on: "test", or "validation" for the images held out of training.
            labels: classes to include, which are renumbered 0, 1, ... in this order. Defaults to all classes.
        """
        chosen = [entry["label"] for entry in self.classes] if labels is None else labels
        parts = [self._scored_images(on, label) for label in chosen]
        numbers = torch.cat([torch.full((len(part),), i, dtype=torch.int64) for i, part in enumerate(parts)])
        mean, std = self.moments
        return TestSet(images=torch.cat(parts), labels=numbers, mean=mean, std=std, classes=len(parts))

    def _scored_images(self, on: Literal["test", "validation"], label: int) -> Tensor:
        if on == "test":
            return self.images("test", label)
        images = self.images("train", label)
        return images[torch.from_numpy(self._validation_rows(label, len(images)))]

    def _validation_rows(self, label: int, count: int) -> np.ndarray:
        held_out = round(count * self.data.validation_fraction)
        random = np.random.default_rng(derive(self.data.split_seed, "validation", label))
        return np.sort(random.permutation(count)[:held_out])

    def images(self, split: Literal["train", "test"], label: int) -> Tensor:
        """Returns all images of a class's shard, uint8 [n, C, H, W]. Raises UserError if its checksum is wrong."""
        parts = self._batches(split, label)
        return _shared(parts[0] if len(parts) == 1 else np.concatenate(parts))

    def train_parts(self, label: int, *, must_map: bool = False) -> ImageParts:
        """Returns the images of ``train`` without copying them into memory: they stay where the shard is mapped.

        A shard in a bucket whose copy does not fit on the local disk is loaded into memory, unless it must be mapped.

        Args:
            label: label of the class.
            must_map: raise UserError rather than load the shard into memory.
        """
        parts = [_shared(part) for part in self._batches("train", label, must_map=must_map)]
        count = sum(map(len, parts))
        held_out = self._validation_rows(label, count)
        kept = torch.from_numpy(np.setdiff1d(np.arange(count), held_out)) if len(held_out) else None
        return ImageParts(parts, kept)

    def train_bytes(self, labels: Iterable[int]) -> int:
        """Returns the bytes of the training images of those classes."""
        rows = sum(self.classes[label]["train"]["rows"] for label in labels)
        return rows * int(np.prod(self.manifest["shape"]))

    def _batches(self, split: Literal["train", "test"], label: int, *, must_map: bool = False) -> list[np.ndarray]:
        """The images of a shard, record batch by record batch, as they are mapped."""
        beat()
        entry = self.classes[label][split]
        path = storage.join(self.folder, entry["file"])
        advice = f"delete {self.folder} and run the same command again"
        try:
            schema, batches = read_batches(self._verified(path, entry, advice, must_map))
            if schema.types != class_schema(self.manifest["shape"]).types:
                raise pa.ArrowInvalid(f"it has columns of {listed(map(str, schema.types))}")
            parts = [batch.column("image").to_numpy_ndarray() for batch in batches]
        except (OSError, pa.ArrowException, KeyError, ValueError) as error:
            raise UserError(f"{path}: cannot be read ({first_line(error)}); {advice}") from None
        rows = sum(map(len, parts))
        if rows != entry["rows"]:
            raise UserError(f"{path}: has {rows} images, the manifest says {entry['rows']}; {advice}")
        return parts

    def _verified(self, path: str, entry: PreparedSplit, advice: str, must_map: bool) -> pa.NativeFile:
        """An input whose checksum is that of the manifest."""
        for _ in range(2):
            source = open_shard(path, entry["sha256"], self.data, must_map=must_map)
            if storage.sha256(source.read_buffer()) == entry["sha256"]:
                return source
            if not forget(path, entry["sha256"], self.data):  # a copy may be damaged although the shard is not
                break
        raise UserError(f"{path}: its checksum is not the manifest's, the file is damaged; {advice}")


def load_test(path: str, *, cache: str | None = None) -> TestSet:
    """Returns the real test images of a run, for ``m3d.accuracy``; needs no Ray.

    Args:
        path: folder of a run, local or a URL.
        cache: the run's ``data.cache``, if its class shards are outside of its folder.

    Raises:
        UserError: the folder holds no run, or its class shards are elsewhere or damaged.
    """
    folder = RunFolder.at(path)
    config, record = folder.read_config(), folder.read_record()
    assert record is not None  # read_config refuses a folder without one
    # What the record says about places is not believed, as in a command.
    config = replace(config, data=replace(config.data, **{**dict.fromkeys(PATHS), "cache": cache}))
    place = found_class_shards(record["resolved"]["class_shards"], folder, config)
    if place is None:
        where = record["resolved"]["class_shards"]
        raise UserError(
            f"{folder}: contains no class shards of the real images; they were in {where}: give that folder's parent as cache"
        )
    return PreparedDataset(place, config.data).test_set()


def found_class_shards(recorded: str, folder: RunFolder, config: RunConfig, *, trusted: bool = False) -> str | None:
    """Returns where a run's class shards are, or None. The place in the run's record is not asked unless it is trusted.

    The run's folder, wherever it is now, and ``data.cache`` of this command are searched for the key of the shards.

    Args:
        recorded: folder of the class shards in the run's record.
        folder: of the run.
        config: of this command.
        trusted: whether the place in the record counts as well, if it is local or where this command goes anyway.
    """
    caches = [folder.class_shards, *([storage.absolute(config.data.cache)] if config.data.cache else [])]
    places = [storage.join(cache, key_of(recorded)) for cache in caches]
    if trusted and is_within_reach(recorded, folder, config):
        places.insert(0, recorded)
    return next((place for place in places if storage.exists(storage.join(place, MANIFEST))), None)


def is_within_reach(place: str, folder: RunFolder, config: RunConfig) -> bool:
    """Whether a place that a record names is on this machine, or in a bucket that the command line names as well."""
    named = (folder.path, config.data.path, config.data.cache)
    return storage.is_local(place) or _root(place) in [_root(path) for path in named if path is not None]


def left_out_shards(recorded: str, folder: RunFolder, left_out: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the places of the folder that are left out, if its class shards are recorded outside and were not found.

    Args:
        recorded: folder of the class shards in the run's record.
        folder: of the run.
        left_out: places that the folder names and the command line does not.
    """
    cache = recorded.rpartition("/")[0]
    if cache == folder.class_shards or (storage.is_local(recorded) and not storage.exists(recorded)):
        return ()
    others = (setting for setting in left_out if not setting.startswith(("data.cache=", "data.path=", "resources.")))
    return (f"data.cache={shlex.quote(cache)}", *others)


def key_of(folder: str) -> str:
    """Returns the key in the path of a folder of class shards."""
    return folder.rsplit("/", 1)[-1]


def _root(url: str) -> list[str]:
    """Scheme and bucket of a URL."""
    return url.split("/")[:3]


def _shared(array: np.ndarray) -> Tensor:
    # torch warns about read-only arrays, which it cannot represent; nothing here writes to one.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return torch.from_numpy(array)
