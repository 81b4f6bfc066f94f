"""WebDataset: tar files of samples. The members of a sample share a key: an image, and its class in .cls or .json.

PATH is a folder of .tar files; the word train, test or val in the name of a file or folder says the split. The class of
a sample is the content of its .cls member (an integer or a name), else ``wnid``, ``class_name`` or ``label`` of its .json,
else the last folder of its key. Images are in the order of their names. The tars are scanned once, when a run is planned;
workers fetch their images by offset.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator
from dataclasses import replace
from functools import cached_property

from pipeline import storage
from pipeline.config.run_config import Data
from pipeline.data.sources.file_layout import (
    SplitFiles,
    described_test,
    in_label_order,
    labelled_test,
    left_out_for,
    root_of,
    split_files,
)
from pipeline.data.sources.findings import Findings, LeftOut
from pipeline.data.sources.layout.split_words import is_exact
from pipeline.data.sources.layout.tar_members import open_tar
from pipeline.data.sources.layout.tar_samples import TarScan, samples, without_class
from pipeline.data.sources.protocol import Item, Listing, SourceIndex, SourceListing, fingerprint, spread
from pipeline.errors import UserError
from pipeline.storage.files import REQUESTS, File, in_threads, part_of

BUFFER_BYTES = 8 * 2**20
"""Bytes that are fetched ahead while a tar is scanned."""
COMPRESSED = (".gz", ".tgz", ".zst", ".bz2", ".xz")


class WebDataset:
    """Encoded images in plain tar files."""

    def __init__(self, data: Data, listing: SourceListing | None = None) -> None:
        self.root = root_of(data, "a folder of .tar files")
        self._listing = listing
        self._scans: dict[File, TarScan] = {}

    def index(self) -> SourceIndex:
        states = [f"{split}/{file.name}:{file.state}" for split, files in self._files.items() for file in files]
        return SourceIndex(
            class_names=self._class_names,
            counts={split: tuple(map(len, by_class)) for split, by_class in self._entries.items()},
            fingerprint=fingerprint("webdataset", *states),
            listing=self._entries,
            findings=self._findings(),
        )

    def read(self, split: str, labels: Collection[int], most: int | None = None) -> Iterator[Item]:
        threads = 1 if storage.is_local(self.root) else REQUESTS
        for label in sorted(labels):
            entries = self._listing.images(split, label) if self._listing else self._entries[split][label]

            def content(entry: list[str | int]) -> bytes:
                return part_of(storage.join(self.root, str(entry[0])), int(entry[2]), int(entry[3]))

            for (tar, name, *_), image in in_threads(spread(entries, most), content, threads):
                path = storage.readable(str(name))
                where = f"{storage.readable(storage.join(self.root, str(tar)))}:{path}"
                yield Item(label=label, path=path, content=image, where=where)

    @cached_property
    def _layout(self) -> SplitFiles:
        """The tars of all splits."""
        files = split_files(self.root, (".tar",))
        if not files.train:
            packed = [entry for entry in files.left_out if entry.reason.removeprefix("ending ") in COMPRESSED]
            advice = "its compressed tars must be unpacked to plain .tar first" if packed else "expected *.tar"
            raise UserError(f"{self.root}: holds no .tar files; {advice}")
        return files

    @cached_property
    def _chosen(self) -> str | None:
        """The split that is used for testing, test or val; None if there is none."""
        tests = {kind: lambda files=files: self._labelled(files) for kind, files in self._layout.tests.items()}
        return labelled_test(tests, self._class_names, self.root)

    @cached_property
    def _files(self) -> dict[str, list[File]]:
        """The tars that are read, by split."""
        tests = {"test": self._layout.tests[self._chosen]} if self._chosen else {}
        return {"train": self._layout.train, **tests}

    @cached_property
    def _class_names(self) -> tuple[str, ...]:
        scans = self._scanned(self._layout.train)
        names = {image.class_name for scan in scans for image in scan.images}
        problem = without_class(scans)
        if len(names) == 1 and not problem:  # the folder of all samples is no class if something else may name it
            problem = next((scan.undecided for scan in scans if scan.undecided), "")
        if problem:
            raise UserError(problem)
        if not names:
            raise UserError(f"{self.root}: its tars hold no images; expected samples such as KEY.jpg with KEY.cls")
        kinds = sorted({kind for scan in scans for kind in scan.splits})
        if len(kinds) > 1 and "train" in kinds:
            raise UserError(
                f"{self.root}: members of its tars lie in folders of the splits {' and '.join(kinds)}; pack every split into "
                "tars of its own, such as train-0.tar and test-0.tar"
            )
        return tuple(in_label_order(names))

    @cached_property
    def _entries(self) -> Listing:
        """Tar, name, offset and size of every image."""
        listing: Listing = {}
        for split, files in self._files.items():
            by_class: dict[str, list[list[str | int]]] = {name: [] for name in self._class_names}
            for image in sorted(image for scan in self._scanned(files) for image in scan.images):
                if image.class_name in by_class:
                    by_class[image.class_name].append([image.tar, image.name, image.offset, image.size])
            listing[split] = tuple(by_class.values())
        return listing

    def _labelled(self, files: list[File]) -> list[str]:
        """The classes of some tars; none if their samples have no class. Raises UserError if only some have none."""
        scans = self._scanned(files)
        problem = without_class(scans, self._class_names)
        names = {image.class_name for scan in scans for image in scan.images}
        if problem:  # a folder called "test" need not be a class
            names = {name for name in names if name in self._class_names or not is_exact(name)}
        if names and problem:
            raise UserError(problem)
        return sorted(names)

    def _findings(self) -> Findings:
        """The members of the tars that are read, without those that name classes, and the tars that are left out."""
        scans = [scan for files in self._files.values() for scan in self._scanned(files)]
        reasons: defaultdict[str, list[str]] = defaultdict(list)
        counts: Counter[str] = Counter()
        for scan in scans:
            for reason, (count, examples) in scan.left_out.items():
                counts[reason] += count
                reasons[reason] += examples
        images, taken = (
            sum(len(scan.images) for scan in scans),
            sum(len(c) for own in self._entries.values() for c in own),
        )
        strangers = (
            [LeftOut(reason="class without training images", count=images - taken, unit="tar member")]
            if images > taken
            else []
        )
        splits, unused = described_test(self._chosen, self._layout)
        members = [
            replace(left_out_for(reason, examples)[0], count=counts[reason], unit="tar member")
            for reason, examples in sorted(reasons.items())
        ]
        return Findings(
            unit="tar member",
            found=images + sum(counts.values()),
            taken=taken,
            left_out=(*self._layout.left_out, *unused, *members, *strangers),
            splits=splits,
        )

    def _scanned(self, files: list[File]) -> list[TarScan]:
        """What is in some tars; every tar is scanned once."""
        threads = 1 if storage.is_local(self.root) else REQUESTS // 2
        new = [file for file in files if file not in self._scans]
        self._scans.update(in_threads(new, self._scan, threads))
        return [self._scans[file] for file in files]

    def _scan(self, file: File) -> TarScan:
        """The samples of a tar; the content of images in a local tar is skipped."""
        place = storage.join(self.root, file.name)
        scan = TarScan(tar=file.name, place=storage.readable(place))
        with open_tar(place, BUFFER_BYTES) as tar:
            for sample in samples(tar, scan):
                scan.add(sample)
        scan.require_together()
        return scan
