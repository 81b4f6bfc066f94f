"""Making class shards: which image goes to which split, decoding, and the manifest. No Ray here.

The folder of a prepared source is CACHE/<key>, the key being a checksum of the source and of all that
the pixels depend on. Per class and split it holds train-00000.arrow and, written after it, the same name
with .json: rows, checksum, sums of the pixels, and the images that were skipped. manifest.json comes last.
"""

from collections import deque
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from m3d.seeding import derive
from pipeline import storage
from pipeline.config import Data
from pipeline.decode_image import BadImageError, channels_of, pixels
from pipeline.documents import PreparedManifest, PreparedRecord, parsed, sealed
from pipeline.errors import UserError, listed
from pipeline.shard_schema import MANIFEST
from pipeline.shard_writer import ClassShard
from pipeline.sources import Item, Source, SourceIndex, open_source
from pipeline.sources.protocol import fingerprint, require_classes, wnid_of

FORMAT = 1
CHUNK_BYTES = 256 * 2**20
"""Decoded pixels that one task makes, unless a single class is larger: a lost task repeats no more."""
AHEAD = 4
"""Images a thread that are decoded before they are asked for."""


@dataclass(frozen=True, kw_only=True)
class ShardPlan:
    """Everything that a task needs to make class shards, and everything that they depend on."""

    data: Data
    folder: str
    names: tuple[str, ...]
    """Classes of the run, in label order."""
    source_labels: tuple[int, ...]
    """Label in the source of each of them."""
    counts: dict[str, tuple[int, ...]]
    """Images per class and split, after test was cut from train where the source has none."""
    cut: bool
    """Whether test is cut from train."""
    channels: int

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self.counts)


def plan_shards(data: Data, cache: str) -> ShardPlan:
    """Looks at the source and decides classes, splits and key. Reads no image but the first."""
    source = open_source(data)
    index = source.index()
    names = data.classes or index.class_names
    require_classes(tuple(names), index.class_names, data.path or data.source)
    labels = tuple(index.class_names.index(name) for name in names)
    counts = {split: tuple(held[label] for label in labels) for split, held in index.counts.items()}
    cut = "test" not in counts
    if cut:
        tests = tuple(round(count * data.test_fraction) for count in counts["train"])
        counts = {"train": tuple(n - t for n, t in zip(counts["train"], tests, strict=True)), "test": tests}
    _require_images(names, counts, cut)
    channels = data.channels or _channels(source, labels)
    return ShardPlan(
        data=data,
        folder=storage.join(cache, _key(data, index, names, channels, cut)),
        names=tuple(names),
        source_labels=labels,
        counts=counts,
        cut=cut,
        channels=channels,
    )


def unfinished(plan: ShardPlan) -> list[int]:
    """Labels whose shards are not all there yet."""
    held = set(storage.files_below(plan.folder, ".json"))
    return [
        label
        for label in range(len(plan.names))
        if any(f"{split}-{label:05d}.json" not in held for split in plan.splits)
    ]


def chunks(plan: ShardPlan, labels: list[int], tasks: int) -> list[list[int]]:
    """Classes per task: at least ``tasks`` chunks where there are as many classes, none too large to hold."""
    most = max(1, -(-len(labels) // max(1, tasks)))
    made: list[list[int]] = []
    size = 0
    for label in labels:
        needed = sum(held[label] for held in plan.counts.values()) * plan.channels * plan.data.image_size**2
        if not made or len(made[-1]) >= most or size + needed > CHUNK_BYTES:
            made.append([])
            size = 0
        made[-1].append(label)
        size += needed
    return made


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
    source = open_source(plan.data)
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
                goes_to = "test" if plan.cut and seen[label] in tests[label] else split
                seen[label] += 1
                shard_of(goes_to, label).take(item, decoded)
        for split in plan.splits:
            for label in labels:
                shard_of(split, label).finish()
    finally:
        for shard in held.values():
            shard.discard()
    return sum(shard.rows for shard in held.values())


def finish(plan: ShardPlan) -> PreparedManifest:
    """Writes and returns the manifest: classes, moments of the training pixels, and skipped images."""
    classes: list[dict[str, Any]] = []
    sums, squares, count = np.zeros(plan.channels), np.zeros(plan.channels), 0
    for label, name in enumerate(plan.names):
        entry: dict[str, Any] = {"label": label, "name": name, "wnid": wnid_of(name)}
        for split in plan.splits:
            path = storage.join(plan.folder, f"{split}-{label:05d}.json")
            try:
                record = parsed(PreparedRecord, storage.read_json(path), path)
            except FileNotFoundError:
                raise UserError(
                    f"{path}: was written on a node but is not seen here; --out or data.cache must be on storage that all nodes share"
                ) from None
            entry[split] = {
                "file": record["file"],
                "rows": record["rows"],
                "sha256": record["sha256"],
                "bad": record["bad"],
            }
            if split == "train":
                sums += record["sum"]
                squares += record["square"]
                count += record["rows"] * plan.data.image_size**2
        classes.append(entry)
    if not count:
        raise UserError("no image of the training split could be decoded; look at the source, and at data.on_bad_image")
    mean = sums / count / 255
    deviation = np.sqrt(np.maximum(squares / count / 255**2 - mean**2, (1 / 255) ** 2))
    manifest = {
        "format": FORMAT,
        "shape": [plan.channels, plan.data.image_size, plan.data.image_size],
        "mean": mean.tolist(),
        "std": deviation.tolist(),
        "test_cut_from_train": plan.cut,
        "classes": classes,
    }
    written = sealed(manifest)
    storage.write_json(storage.join(plan.folder, MANIFEST), written)
    return parsed(PreparedManifest, written, plan.folder)


def require_per_class(counts: Mapping[str, int], needed: int, validation_fraction: float, why: str) -> None:
    """Raises UserError where a class has fewer training images than ``needed``, naming the smallest.

    Args:
        counts: training images by class name.
        needed: by every class, after a part was held out for validation.
        validation_fraction: that part.
        why: where the number comes from.
    """
    kept = {name: count - round(count * validation_fraction) for name, count in counts.items()}
    name, count = min(kept.items(), key=lambda item: item[1])
    if count < needed:
        raise UserError(
            f"class {name!r}: has {count} training images, needed {needed} ({why}); lower condense.images_per_class "
            "or condense.factor, set condense.start=random or noise, or leave the class out with data.classes"
        )


class _Shard:
    """One class's images of one split, on their way to a file and its record."""

    def __init__(self, plan: ShardPlan, split: str, label: int) -> None:
        size = plan.data.image_size
        self._plan, self._name = plan, f"{split}-{label:05d}"
        self._file = ClassShard(storage.join(plan.folder, f"{self._name}.arrow"), (plan.channels, size, size))
        self.bad: list[str] = []
        self.sum: np.ndarray = np.zeros(plan.channels)
        self.square: np.ndarray = np.zeros(plan.channels)

    @property
    def rows(self) -> int:
        return self._file.rows

    def take(self, item: Item, decoded: np.ndarray | BadImageError) -> None:
        if isinstance(decoded, BadImageError):
            self._refuse(item, decoded)
            return
        self._file.add(decoded, item.path)
        # Whole numbers below 2**53 in float64: exact, so the moments do not depend on the order of the sum.
        values = decoded.reshape(len(decoded), -1).astype(np.float64)
        self.sum += values.sum(1)
        self.square += np.einsum("cp,cp->c", values, values)

    def finish(self) -> None:
        record = {
            "file": f"{self._name}.arrow",
            "rows": self.rows,
            "sha256": self._file.commit(),
            "bad": self.bad,
            "sum": [int(value) for value in self.sum],
            "square": [int(value) for value in self.square],
        }
        storage.write_json(storage.join(self._plan.folder, f"{self._name}.json"), sealed(record))

    def discard(self) -> None:
        self._file.discard()

    def _refuse(self, item: Item, error: BadImageError) -> None:
        if self._plan.data.on_bad_image == "fail":
            raise UserError(
                f"{item.where or item.path}: cannot be decoded ({error}); repair or remove it, or leave out such images with "
                "--set data.on_bad_image=skip"
            )
        self.bad.append(f"{item.path}: {error}")


def _decoded(items: Iterator[Item], plan: ShardPlan, threads: int) -> Iterator[tuple[Item, np.ndarray | BadImageError]]:
    """The images in their order, decoded ahead by so many threads, a few a thread."""

    def decode(item: Item) -> np.ndarray | BadImageError:
        try:
            return pixels(item.content, plan.data.image_size, plan.channels)
        except BadImageError as error:
            return error

    if threads == 1:
        yield from ((item, decode(item)) for item in items)
        return
    with ThreadPoolExecutor(threads, thread_name_prefix="decode") as pool:
        ahead: deque[tuple[Item, Future[np.ndarray | BadImageError]]] = deque()
        for item in items:
            ahead.append((item, pool.submit(decode, item)))
            if len(ahead) >= threads * AHEAD:
                first, decoded = ahead.popleft()
                yield first, decoded.result()
        while ahead:
            first, decoded = ahead.popleft()
            yield first, decoded.result()


def _test_rows(plan: ShardPlan, label: int) -> set[int]:
    """Which of a class's images, by their order in the source, are cut for test: seeded, per class."""
    total = plan.counts["train"][label] + plan.counts["test"][label]
    random = np.random.default_rng(derive(plan.data.split_seed, f"test/{plan.names[label]}"))
    return set(random.permutation(total)[: plan.counts["test"][label]].tolist())


def _require_images(names: Collection[str], counts: dict[str, tuple[int, ...]], cut: bool) -> None:
    for split, held in counts.items():
        empty = [name for name, count in zip(names, held, strict=True) if count == 0]
        if empty:
            hint = "; raise data.test_fraction" if cut and split == "test" else ""
            raise UserError(f"classes without {split} images: {listed(empty)}; leave them out with data.classes{hint}")


def _channels(source: Source, labels: tuple[int, ...]) -> int:
    for item in _first_good(source.read("train", labels)):
        return item
    raise UserError("the source holds no image that can be decoded; see data.on_bad_image")


def _first_good(items: Iterator[Item]) -> Iterator[int]:
    for item in items:
        try:
            yield channels_of(item.content)
        except BadImageError:
            continue


def _key(data: Data, index: SourceIndex, names: Collection[str], channels: int, cut: bool) -> str:
    split = (data.test_fraction, data.split_seed) if cut else ()
    return fingerprint(
        FORMAT, data.source, index.fingerprint, *names, data.image_size, channels, data.on_bad_image, *split
    )
