"""Writes class shards: decodes images, cuts the test split, and writes a record beside every shard. No Ray here."""

import tempfile
from collections.abc import Collection, Iterator, Mapping
from typing import IO

import numpy as np

from m3d.pulse import beat
from m3d.seeding import derive
from pipeline import storage
from pipeline.data.channels import require_grey
from pipeline.data.class_shard_writer import ClassShard
from pipeline.data.decode_image import BadImageError, pixels
from pipeline.data.shard_manifest import ListingDocument
from pipeline.data.shard_plan import ShardPlan, listing_path
from pipeline.data.sources import Item, open_source
from pipeline.data.sources.protocol import SourceListing
from pipeline.errors import UserError
from pipeline.storage.documents import read_document, write_document
from pipeline.storage.files import in_threads


def make_shards(plan: ShardPlan, labels: Collection[int], threads: int = 1) -> int:
    """Decodes some classes and writes their shards; returns the number of decoded images.

    A record batch per class and a few images per thread are in memory, however large the classes are. A class is read twice
    if no image that was cut for its test split can be decoded: others are cut then.

    Args:
        plan: the plan.
        labels: classes to write.
        threads: number of threads that decode.

    Raises:
        UserError: an image cannot be decoded and ``data.on_bad_image`` is fail.
    """
    shards = _Shards(plan)
    try:
        unreadable = _fill(shards, labels, threads, without={})
        if plan.test_cut_from_train:
            again = {
                label: unreadable[label] for label in labels if unreadable[label] and not shards.of("test", label).rows
            }
            for label in again:
                shards.begin_again(label)
            if again:
                _fill(shards, list(again), threads, without=again)
        for split in plan.splits:
            for label in labels:
                shards.of(split, label).finish()
    finally:
        shards.discard()
    return shards.rows


def _fill(
    shards: "_Shards", labels: Collection[int], threads: int, without: Mapping[int, Collection[int]]
) -> dict[int, list[int]]:
    """Decodes some classes into their shards; returns the positions of images that cannot be decoded, by label.

    Args:
        shards: receives the images.
        labels: classes to read.
        threads: number of threads that decode.
        without: by label, positions that are not cut for the test split.
    """
    plan = shards.plan
    source = open_source(plan.data, _listing(plan))
    label_of = {plan.source_labels[label]: label for label in labels}
    unreadable: dict[int, list[int]] = {label: [] for label in labels}
    for split in ["train"] if plan.test_cut_from_train else plan.splits:
        seen = dict.fromkeys(labels, 0)
        cut = (
            {label: _test_rows(plan, label, without.get(label, ())) for label in labels}
            if plan.test_cut_from_train
            else {}
        )
        for item, decoded in _decoded(source.read(split, list(label_of)), plan, threads):
            beat()
            label = label_of[item.label]
            position = seen[label] if item.rank is None else item.rank
            seen[label] += 1
            if isinstance(decoded, BadImageError):
                unreadable[label].append(position)
            shards.of("test" if cut and position in cut[label] else split, label).add(item, decoded)
    return unreadable


class _Shards:
    """The shards of some classes, by split and label."""

    def __init__(self, plan: ShardPlan) -> None:
        self.plan = plan
        self._shards: dict[tuple[str, int], _Shard] = {}

    @property
    def rows(self) -> int:
        return sum(shard.rows for shard in self._shards.values())

    def of(self, split: str, label: int) -> "_Shard":
        if (split, label) not in self._shards:
            self._shards[split, label] = _Shard(self.plan, split, label)
        return self._shards[split, label]

    def begin_again(self, label: int) -> None:
        """Drops what was read of a class."""
        for split in self.plan.splits:
            self.of(split, label).discard()
            del self._shards[split, label]

    def discard(self) -> None:
        """Drops what is not finished."""
        for shard in self._shards.values():
            shard.discard()


class _Shard:
    """Images of one class and one split, on their way to a shard and its record."""

    def __init__(self, plan: ShardPlan, split: str, label: int) -> None:
        size = plan.data.image_size
        self._plan, self._name = plan, f"{split}-{label:05d}"
        self._file = ClassShard(storage.join(plan.folder, f"{self._name}.arrow"), (plan.channels, size, size))
        self._bad: list[tuple[int, str]] = []
        self._unordered: _UnorderedImages | None = None
        self._count = 0
        self.sum: np.ndarray = np.zeros(plan.channels)
        self.square: np.ndarray = np.zeros(plan.channels)

    @property
    def rows(self) -> int:
        return self._file.rows

    def add(self, item: Item, decoded: np.ndarray | BadImageError) -> None:
        self._count += 1
        if isinstance(decoded, BadImageError):
            self._skip(item, decoded)
            return
        if item.rank is None:
            self._file.add(decoded, item.path)
        else:
            self._unordered = self._unordered or _UnorderedImages()
            self._unordered.add(item.rank, decoded, item.path)
        # Integers below 2**53 are exact in float64, so the moments do not depend on the order of the sum.
        values = decoded.reshape(len(decoded), -1).astype(np.float64)
        self.sum += values.sum(1)
        self.square += np.einsum("cp,cp->c", values, values)

    def finish(self) -> None:
        if self._unordered is not None:
            for image, path in self._unordered.in_order():
                beat()
                self._file.add(image, path)
        checksum = self._file.commit()
        record = {
            "file": f"{self._name}.arrow",
            "rows": self.rows,
            "sha256": checksum,
            "bad": [text for _, text in sorted(self._bad)],
            "sum": [int(value) for value in self.sum],
            "square": [int(value) for value in self.square],
        }
        write_document(storage.join(self._plan.folder, f"{self._name}.json"), record)

    def discard(self) -> None:
        self._file.discard()
        if self._unordered is not None:
            self._unordered.close()

    def _skip(self, item: Item, error: BadImageError) -> None:
        if self._plan.data.on_bad_image == "fail":
            raise UserError(
                f"{item.where or item.path}: cannot be decoded ({error}); repair or remove it, or skip such images with "
                "--set data.on_bad_image=skip"
            )
        self._bad.append((self._count if item.rank is None else item.rank, f"{item.path}: {error}"))


class _UnorderedImages:
    """Images that arrive in another order than they are stored in: a temporary file keeps them until all have arrived."""

    def __init__(self) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (closed by close)
        self._places: dict[int, tuple[int, str]] = {}
        self._shape: tuple[int, ...] = ()

    def add(self, rank: int, image: np.ndarray, path: str) -> None:
        self._shape = image.shape
        self._places[rank] = (self._file.tell(), path)
        try:
            self._file.write(image.tobytes())
        except OSError as error:
            raise storage.unwritable_temporary(error) from None

    def in_order(self) -> Iterator[tuple[np.ndarray, str]]:
        for _, (offset, path) in sorted(self._places.items()):
            self._file.seek(offset)
            yield np.frombuffer(self._file.read(int(np.prod(self._shape))), np.uint8).reshape(self._shape), path

    def close(self) -> None:
        self._file.close()


def _decoded(items: Iterator[Item], plan: ShardPlan, threads: int) -> Iterator[tuple[Item, np.ndarray | BadImageError]]:
    """The images in their order, decoded ahead by threads."""

    def decode(item: Item) -> np.ndarray | BadImageError:
        if item.problem:
            return BadImageError(item.problem)
        try:
            require_grey(plan.data, plan.channels, item)
            return pixels(item.content, plan.data.image_size, plan.channels)
        except BadImageError as error:
            return error

    return in_threads(items, decode, threads)


def _listing(plan: ShardPlan) -> SourceListing:
    def images(split: str, label: int) -> list[list[str | int]]:
        path = listing_path(plan.folder, split, label)
        return read_document(ListingDocument, path)["images"]

    return SourceListing(class_names=plan.source_names, images=images, folders=plan.folders)


def _test_rows(plan: ShardPlan, label: int, without: Collection[int]) -> set[int]:
    """Positions in their class, in the order of the source, of the images that are cut for the test split: seeded per class.

    Args:
        plan: the plan.
        label: of the class.
        without: positions that are not cut. If there are any, at least one of the others stays in the training split.
    """
    total, wanted = plan.counts["train"][label] + plan.counts["test"][label], plan.counts["test"][label]
    random = np.random.default_rng(derive(plan.data.split_seed, f"test/{plan.names[label]}"))
    drawn = [position for position in random.permutation(total).tolist() if position not in without]
    return set(drawn[: min(wanted, len(drawn) - 1) if without else wanted])
