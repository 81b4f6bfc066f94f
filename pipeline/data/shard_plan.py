"""Plans class shards: their classes and splits, the folder, and the tasks that write them. No Ray here.

The folder of a prepared source is CACHE/<key>. The key is a checksum of the source and of everything else that the
pixels depend on. For each class and split the folder contains train-00000.arrow and, written after it, a record with the
same name and .json: rows, checksum, sums of the pixels, and skipped images. manifest.json is written last. For sources
that find images by offset, listing/train-00000.json lists the places of the images of a source's class.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from pipeline import storage
from pipeline.config.run_config import Data
from pipeline.data.channels import channels_of_source
from pipeline.data.class_names import ClassName, chosen, described, distinct, read_synsets
from pipeline.data.decode_image import READING
from pipeline.data.source_report import SourceReport, report_of
from pipeline.data.sources import Source, SourceIndex, open_source
from pipeline.data.sources.protocol import Listing, fingerprint
from pipeline.errors import UserError, listed, repeated
from pipeline.formats.arrow_schema import MANIFEST
from pipeline.storage.documents import write_compact_document
from pipeline.storage.files import REQUESTS, in_threads
from pipeline.storage.local.local_files import require_no_link

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
    channels_note: str
    """A line for the user on how the channels were decided; empty if there is nothing to say."""
    by_class: bool
    """Whether a class can be read without reading the others."""
    folders: Mapping[str, tuple[str, ...]]
    """By split, the folder of each class of the source; empty if it has none."""
    report: SourceReport
    """What was found in the source and how it is read."""

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits."""
        return tuple(self.counts)


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The classes of a run in its source, before an image is read."""

    source: Source
    index: SourceIndex
    classes: tuple[ClassName, ...]
    """Classes of the run, in label order."""
    labels: tuple[int, ...]
    """Label of each class in the source."""
    counts: dict[str, tuple[int, ...]]
    """Images per class, by split, after test images were cut from train."""
    cut: bool
    """Whether the test split is cut from train."""

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(entry.name for entry in self.classes)

    @property
    def titles(self) -> tuple[str, ...]:
        return distinct([entry.title for entry in self.classes], self.names)

    def report(self, data: Data) -> SourceReport:
        """What was found in the source and how it is read."""
        findings = self.index.findings
        if self.cut:
            splits = {**findings.splits, "test": f"cut from train, {data.test_fraction:.0%} of every class"}
            findings = replace(findings, splits=splits)
        return report_of(findings, self.titles, self.counts)


def look(data: Data) -> SourceReport:
    """Returns what is found in a source and how it is read, without decoding an image or writing anything.

    Raises:
        UserError: like ``plan_shards``, except for images that cannot be decoded.
    """
    return select(data).report(data)


def plan_shards(data: Data, cache: str) -> ShardPlan:
    """Returns the plan for a source: classes, splits and key. Decodes no image.

    Args:
        data: settings of the source.
        cache: folder above that of the class shards.

    Raises:
        UserError: the source cannot be read, a class is missing, ambiguous or empty, no image can be decoded, or a folder
            to write to is a link.
    """
    selection = select(data)
    index, names, titles = selection.index, selection.names, selection.titles
    channels = channels_of_source(data, selection.source, index, selection.labels)
    plan = ShardPlan(
        data=data,
        folder=storage.join(cache, _key(data, index, names, titles, channels.count, selection.cut)),
        names=names,
        titles=titles,
        wnids=tuple(entry.wnid for entry in selection.classes),
        source_names=index.class_names,
        source_labels=selection.labels,
        counts=selection.counts,
        test_cut_from_train=selection.cut,
        channels=channels.count,
        channels_note=channels.note,
        by_class=index.by_class,
        folders=index.folders,
        report=selection.report(data),
    )
    if not storage.exists(storage.join(plan.folder, MANIFEST)):
        for place in (plan.folder, listing_folder(plan.folder)):
            require_no_link(place)
        if index.listing is not None:
            _write_listing(plan, index.listing)
    return plan


def select(data: Data) -> Selection:
    """Returns the classes of a run in its source, without decoding an image. Raises UserError like ``plan_shards``."""
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
    chosen_classes = tuple(classes[label] for label in labels)
    return Selection(source=source, index=index, classes=chosen_classes, labels=labels, counts=counts, cut=cut)


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
    return storage.join(listing_folder(folder), f"{split}-{label:05d}.json")


def listing_folder(folder: str) -> str:
    """Returns the folder of the listings in a folder of class shards."""
    return storage.join(folder, "listing")


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
            advice = ["leave them out with data.classes"] if len(empty) < len(by_class) else []
            advice += ["raise data.test_fraction"] if cut and split == "test" else []
            raise UserError(f"classes without {split} images: {'; '.join([listed(empty), *advice])}")


def _key(
    data: Data, index: SourceIndex, names: tuple[str, ...], titles: tuple[str, ...], channels: int, cut: bool
) -> str:
    split = (data.test_fraction, data.split_seed) if cut else ()
    shown = titles if titles != names else ()
    reading = (f"reading {READING}",) if index.encoded else ()
    parts = (FORMAT, data.source, index.fingerprint, *names, data.image_size, channels, data.on_bad_image)
    return fingerprint(*parts, *split, *shown, *reading)
