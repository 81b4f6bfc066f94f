"""Planning class shards: which classes and splits, the tasks that make them, and the manifest. No Ray here.

The folder of a prepared source is CACHE/<key>, the key being a checksum of the source and of all that
the pixels depend on. Per class and split it holds train-00000.arrow and, written after it, the same name
with .json: rows, checksum, sums of the pixels, and the images that were skipped. manifest.json comes last. For
sources that are found again by offsets, listing/train-00000.json says where the images of a source's class are.
"""

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from pipeline import storage
from pipeline.config.run_config import Data
from pipeline.data.class_names import chosen, described, distinct, read_synsets
from pipeline.data.decode_image import BadImageError, channels_of
from pipeline.data.sources import Item, Source, SourceIndex, open_source
from pipeline.data.sources.protocol import Listing, fingerprint
from pipeline.errors import UserError, listed
from pipeline.formats.arrow_schema import MANIFEST
from pipeline.storage.documents import sealed
from pipeline.storage.files import REQUESTS, in_threads

FORMAT = 1
CHUNK_BYTES = 256 * 2**20
"""Decoded pixels that one task makes, unless a single class is larger: a lost task repeats no more."""
PASS_CLASSES = 64
"""Classes that one task makes of a source that has to be gone through whole: each holds a record batch in memory."""


@dataclass(frozen=True, kw_only=True)
class ShardPlan:
    """Everything that a task needs to make class shards, and everything that they depend on."""

    data: Data
    folder: str
    names: tuple[str, ...]
    """Classes of the run, in label order: WordNet ids where they are known."""
    titles: tuple[str, ...]
    """What people call them."""
    wnids: tuple[str, ...]
    source_names: tuple[str, ...]
    """All classes of the source, as it calls them."""
    source_labels: tuple[int, ...]
    """Label in the source of each of them."""
    counts: dict[str, tuple[int, ...]]
    """Images per class and split, after test was cut from train where the source has none."""
    cut: bool
    """Whether test is cut from train."""
    channels: int
    by_class: bool
    """Whether a class can be made without going through the others."""

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self.counts)


def plan_shards(data: Data, cache: str) -> ShardPlan:
    """Looks at the source and decides classes, splits and key. Reads no image but the first."""
    source = open_source(data)
    index = source.index()
    where = data.path or data.source
    known = described(index.class_names, data.subset, read_synsets(data.synsets) if data.synsets else None)
    labels = chosen(known, data.classes, data.subset, where)
    names = tuple(known[label].name for label in labels)
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise UserError(f"{where}: several of its classes are {listed(twice)}; name those to use in data.classes")
    counts = {split: tuple(held[label] for label in labels) for split, held in index.counts.items()}
    cut = "test" not in counts
    if cut:
        tests = tuple(round(count * data.test_fraction) for count in counts["train"])
        counts = {"train": tuple(n - t for n, t in zip(counts["train"], tests, strict=True)), "test": tests}
    _require_images(names, counts, cut)
    channels = data.channels or _channels(source, labels)
    titles = distinct([known[label].title for label in labels], names)
    plan = ShardPlan(
        data=data,
        folder=storage.join(cache, _key(data, index, names, titles, channels, cut)),
        names=names,
        titles=titles,
        wnids=tuple(known[label].wnid for label in labels),
        source_names=index.class_names,
        source_labels=labels,
        counts=counts,
        cut=cut,
        channels=channels,
        by_class=index.by_class,
    )
    if index.listing is not None and not storage.exists(storage.join(plan.folder, MANIFEST)):
        _write_listing(plan, index.listing)
    return plan


def unfinished(plan: ShardPlan) -> list[int]:
    """Labels whose shards are not all there yet."""
    held = set(storage.files_below(plan.folder, ".json"))
    return [
        label
        for label in range(len(plan.names))
        if any(f"{split}-{label:05d}.json" not in held for split in plan.splits)
    ]


def chunks(plan: ShardPlan, labels: list[int], tasks: int, nodes: int = 1) -> list[list[int]]:
    """Classes per task: at least ``tasks`` chunks where there are as many classes, none too large to hold.

    Every task of a source that has to be gone through whole reads all of it: there is one a node, or as many as keep
    to ``PASS_CLASSES``.
    """
    if not plan.by_class:
        count = max(min(nodes, len(labels)), -(-len(labels) // PASS_CLASSES))
        return [labels[len(labels) * i // count : len(labels) * (i + 1) // count] for i in range(count)]
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


def listing_path(folder: str, split: str, label: int) -> str:
    """Where the images of a class of the source are listed, for sources that are found again by offsets."""
    return storage.join(folder, "listing", f"{split}-{label:05d}.json")


def _write_listing(plan: ShardPlan, listing: Listing) -> None:
    def write(place: tuple[str, int]) -> None:
        split, label = place
        document = sealed({"images": listing[split][label]})
        storage.write_bytes(listing_path(plan.folder, split, label), json.dumps(document).encode())

    places = [(split, label) for split in listing for label in plan.source_labels]
    for _ in in_threads(places, write, 1 if storage.is_local(plan.folder) else REQUESTS):
        pass


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


def _key(
    data: Data, index: SourceIndex, names: tuple[str, ...], titles: tuple[str, ...], channels: int, cut: bool
) -> str:
    split = (data.test_fraction, data.split_seed) if cut else ()
    called = titles if titles != names else ()
    return fingerprint(
        FORMAT, data.source, index.fingerprint, *names, data.image_size, channels, data.on_bad_image, *split, *called
    )
