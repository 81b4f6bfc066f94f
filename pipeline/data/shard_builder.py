"""Making class shards: decoding, which image goes to which split, and a record beside every file. No Ray here."""

import tempfile
from collections.abc import Collection, Iterator
from typing import IO

import numpy as np

from m3d.seeding import derive
from pipeline import storage
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
    """Decodes some classes and writes their shards; returns the number of images decoded.

    Memory holds a record batch of every class and a few images a thread, however large the classes are.

    Args:
        plan: what to make.
        labels: classes to make.
        threads: that decode.

    Raises:
        UserError: an image is bad and ``data.on_bad_image`` is fail.
    """
    source = open_source(plan.data, _known(plan))
    back = {plan.source_labels[label]: label for label in labels}
    held: dict[tuple[str, int], _Shard] = {}

    def shard_of(split: str, label: int) -> _Shard:
        if (split, label) not in held:
            held[split, label] = _Shard(plan, split, label)
        return held[split, label]

    try:
        for split in ["train"] if plan.cut else plan.splits:
            seen = dict.fromkeys(back.values(), 0)
            tests = {label: _test_rows(plan, label) for label in back.values()} if plan.cut else {}
            for item, decoded in _decoded(source.read(split, list(back)), plan, threads):
                label = back[item.label]
                place = seen[label] if item.rank is None else item.rank
                goes_to = "test" if plan.cut and place in tests[label] else split
                seen[label] += 1
                shard_of(goes_to, label).take(item, decoded)
        for split in plan.splits:
            for label in labels:
                shard_of(split, label).finish()
    finally:
        for shard in held.values():
            shard.discard()
    return sum(shard.rows for shard in held.values())


class _Shard:
    """One class's images of one split, on their way to a file and its record."""

    def __init__(self, plan: ShardPlan, split: str, label: int) -> None:
        size = plan.data.image_size
        self._plan, self._name = plan, f"{split}-{label:05d}"
        self._file = ClassShard(storage.join(plan.folder, f"{self._name}.arrow"), (plan.channels, size, size))
        self._bad: list[tuple[int, str]] = []
        self._apart: _Apart | None = None
        self._taken = 0
        self.sum: np.ndarray = np.zeros(plan.channels)
        self.square: np.ndarray = np.zeros(plan.channels)

    @property
    def rows(self) -> int:
        return self._file.rows

    def take(self, item: Item, decoded: np.ndarray | BadImageError) -> None:
        self._taken += 1
        if isinstance(decoded, BadImageError):
            self._refuse(item, decoded)
            return
        if item.rank is None:
            self._file.add(decoded, item.path)
        else:
            self._apart = self._apart or _Apart()
            self._apart.add(item.rank, decoded, item.path)
        # Whole numbers below 2**53 in float64: exact, so the moments do not depend on the order of the sum.
        values = decoded.reshape(len(decoded), -1).astype(np.float64)
        self.sum += values.sum(1)
        self.square += np.einsum("cp,cp->c", values, values)

    def finish(self) -> None:
        if self._apart is not None:
            for image, path in self._apart.in_order():
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
        if self._apart is not None:
            self._apart.close()

    def _refuse(self, item: Item, error: BadImageError) -> None:
        if self._plan.data.on_bad_image == "fail":
            raise UserError(
                f"{item.where or item.path}: cannot be decoded ({error}); repair or remove it, or leave out such images with "
                "--set data.on_bad_image=skip"
            )
        self._bad.append((self._taken if item.rank is None else item.rank, f"{item.path}: {error}"))


class _Apart:
    """Images that come in another order than they are stored in: kept in a temporary file until all are there."""

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
        for _, (at, path) in sorted(self._places.items()):
            self._file.seek(at)
            yield np.frombuffer(self._file.read(int(np.prod(self._shape))), np.uint8).reshape(self._shape), path

    def close(self) -> None:
        self._file.close()


def _decoded(items: Iterator[Item], plan: ShardPlan, threads: int) -> Iterator[tuple[Item, np.ndarray | BadImageError]]:
    """The images in their order, decoded ahead by so many threads, a few a thread."""

    def decode(item: Item) -> np.ndarray | BadImageError:
        try:
            return pixels(item.content, plan.data.image_size, plan.channels)
        except BadImageError as error:
            return error

    return in_threads(items, decode, threads)


def _known(plan: ShardPlan) -> SourceListing:
    def listing(split: str, label: int) -> list[list[str | int]]:
        path = listing_path(plan.folder, split, label)
        return read_document(ListingDocument, path)["images"]

    return SourceListing(class_names=plan.source_names, listing=listing)


def _test_rows(plan: ShardPlan, label: int) -> set[int]:
    """Which of a class's images, by their order in the source, are cut for test: seeded, per class."""
    total = plan.counts["train"][label] + plan.counts["test"][label]
    random = np.random.default_rng(derive(plan.data.split_seed, f"test/{plan.names[label]}"))
    return set(random.permutation(total)[: plan.counts["test"][label]].tolist())
