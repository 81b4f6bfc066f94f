"""Plans class shards: their classes and splits, the folder, and the tasks that write them. No Ray here.

The folder of a prepared source is CACHE/<key>. The key is a checksum of the source and of everything else that the
pixels depend on. For each class and split the folder contains train-00000.arrow and, written after it, a record with the
same name and .json: rows, checksum, sums of the pixels, and skipped images. manifest.json is written last. For sources
that find images by offset, listing/train-00000.json lists the places of the images of a source's class.
"""

import contextlib
from collections.abc import Collection
from dataclasses import dataclass

from pipeline import storage
from pipeline.config.run_config import Data
from pipeline.data.class_names import chosen, described, distinct, read_synsets
from pipeline.data.decode_image import BadImageError, channels_of
from pipeline.data.sources import Source, SourceIndex, open_source
from pipeline.data.sources.protocol import Listing, fingerprint
from pipeline.errors import UserError, listed, repeated
from pipeline.formats.arrow_schema import MANIFEST
from pipeline.storage.documents import write_compact_document
from pipeline.storage.files import REQUESTS, in_threads

FORMAT = 1
CHUNK_BYTES = 256 * 2**20
"""Bytes of pixels that one task decodes, unless a single class is larger; this bounds the work lost when a task dies."""
PASS_CLASSES = 64
"""Most classes of one task, if the source must be read completely: each class keeps a record batch in memory."""


@dataclass(frozen=True, kw_only=True)
class ShardPlan:
    """Everything that a task needs to write class shards, and everything that the shards depend on."""

    data: Data
    folder: str
    """Folder of the class shards, which ends in their key."""
    names: tuple[str, ...]
    """Classes of the run, in label order: WordNet ids if they are known."""
    titles: tuple[str, ...]
    """Names that people use for the classes."""
    wnids: tuple[str, ...]
    """WordNet ids of the classes, or empty strings."""
    source_names: tuple[str, ...]
    """Names of all classes of the source, as it spells them."""
    source_labels: tuple[int, ...]
    """Label of each class of the run in the source."""
    counts: dict[str, tuple[int, ...]]
    """Images per class, by split, after test images were cut from train if the source has no test split."""
    test_cut_from_train: bool
    """Whether the test split is cut from train."""
    channels: int
    by_class: bool
    """Whether a class can be read without reading the others."""

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits."""
        return tuple(self.counts)


def plan_shards(data: Data, cache: str) -> ShardPlan:
    """Returns the plan for a source: classes, splits and key. Decodes no image but the first.

    Args:
        data: settings of the source.
        cache: folder above that of the class shards.

    Raises:
        UserError: the source cannot be read, a class is missing, ambiguous or empty, or no image can be decoded.
    """
    source = open_source(data)
    index = source.index()
    where = data.path or data.source
    classes = described(index.class_names, data.subset, read_synsets(data.synsets) if data.synsets else None)
    labels = chosen(classes, data.classes, data.subset, where)
    names = tuple(classes[label].name for label in labels)
    if twice := repeated(names):
        raise UserError(f"{where}: several of its classes are {listed(twice)}; name those to use in data.classes")
    counts = {split: tuple(count[label] for label in labels) for split, count in index.counts.items()}
    cut = "test" not in counts
    if cut:
        tests = tuple(round(count * data.test_fraction) for count in counts["train"])
        counts = {"train": tuple(n - t for n, t in zip(counts["train"], tests, strict=True)), "test": tests}
    _require_images(names, counts, cut)
    channels = data.channels or _channels(source, labels)
    titles = distinct([classes[label].title for label in labels], names)
    plan = ShardPlan(
        data=data,
        folder=storage.join(cache, _key(data, index, names, titles, channels, cut)),
        names=names,
        titles=titles,
        wnids=tuple(classes[label].wnid for label in labels),
        source_names=index.class_names,
        source_labels=labels,
        counts=counts,
        test_cut_from_train=cut,
        channels=channels,
        by_class=index.by_class,
    )
    if index.listing is not None and not storage.exists(storage.join(plan.folder, MANIFEST)):
        _write_listing(plan, index.listing)
    return plan


def unfinished(plan: ShardPlan) -> list[int]:
    """Returns the labels that lack a shard."""
    records = set(storage.files_below(plan.folder, ".json"))
    return [
        label
        for label in range(len(plan.names))
        if any(f"{split}-{label:05d}.json" not in records for split in plan.splits)
    ]


def chunks(plan: ShardPlan, labels: list[int], tasks: int, nodes: int = 1) -> list[list[int]]:
    """Returns the classes of each task.

    There are at least ``tasks`` tasks if there are as many classes, and none decodes more than ``CHUNK_BYTES`` unless it
    has a single class. If the source must be read completely by every task, there is one task per node, or as many as
    ``PASS_CLASSES`` requires.

    Args:
        plan: the plan.
        labels: classes to write.
        tasks: number of tasks to aim for.
        nodes: number of nodes of the cluster.
    """
    if not plan.by_class:
        count = max(min(nodes, len(labels)), -(-len(labels) // PASS_CLASSES))
        return [labels[len(labels) * i // count : len(labels) * (i + 1) // count] for i in range(count)]
    most = max(1, -(-len(labels) // max(1, tasks)))
    parts: list[list[int]] = []
    size = 0
    for label in labels:
        needed = sum(counts[label] for counts in plan.counts.values()) * plan.channels * plan.data.image_size**2
        if not parts or len(parts[-1]) >= most or size + needed > CHUNK_BYTES:
            parts.append([])
            size = 0
        parts[-1].append(label)
        size += needed
    return parts


def listing_path(folder: str, split: str, label: int) -> str:
    """Returns the path of the listing of a source's class, for sources that find images by offset."""
    return storage.join(folder, "listing", f"{split}-{label:05d}.json")


def _write_listing(plan: ShardPlan, listing: Listing) -> None:
    def write(place: tuple[str, int]) -> None:
        split, label = place
        write_compact_document(listing_path(plan.folder, split, label), {"images": listing[split][label]})

    places = [(split, label) for split in listing for label in plan.source_labels]
    for _ in in_threads(places, write, 1 if storage.is_local(plan.folder) else REQUESTS):
        pass


def _require_images(names: Collection[str], counts: dict[str, tuple[int, ...]], cut: bool) -> None:
    """Raises UserError if a class has no image in a split, and names such classes."""
    for split, by_class in counts.items():
        empty = [name for name, count in zip(names, by_class, strict=True) if count == 0]
        if empty:
            hint = "; raise data.test_fraction" if cut and split == "test" else ""
            raise UserError(f"classes without {split} images: {listed(empty)}; leave them out with data.classes{hint}")


def _channels(source: Source, labels: tuple[int, ...]) -> int:
    """Channels of the first image that can be decoded."""
    for item in source.read("train", labels):
        with contextlib.suppress(BadImageError):
            return channels_of(item.content)
    raise UserError("the source holds no image that can be decoded; see data.on_bad_image")


def _key(
    data: Data, index: SourceIndex, names: tuple[str, ...], titles: tuple[str, ...], channels: int, cut: bool
) -> str:
    split = (data.test_fraction, data.split_seed) if cut else ()
    shown = titles if titles != names else ()
    return fingerprint(
        FORMAT, data.source, index.fingerprint, *names, data.image_size, channels, data.on_bad_image, *split, *shown
    )
