"""WebDataset: tar files of samples. The members of a sample share a key: an image, and its class in .cls or .json.

PATH is a folder of .tar files, with the splits as folders or as prefixes of file names. The class of a sample is the
content of its .cls member (an integer or a name), else ``wnid``, ``class_name`` or ``label`` of its .json, else the last
folder of its key. Images are in the order of their names. The tars are scanned once, when a run is planned; workers
fetch their images by offset.
"""

import tarfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from pipeline import storage
from pipeline.config.run_config import Data
from pipeline.data.sources.file_layout import root_of, split_of, splits
from pipeline.data.sources.image_folder import EXTENSIONS
from pipeline.data.sources.protocol import Item, Listing, SourceIndex, SourceListing, fingerprint
from pipeline.data.sources.tar_members import members, open_tar, text_of
from pipeline.errors import UserError, listed
from pipeline.storage.files import REQUESTS, File, files_in, in_threads, part_of
from pipeline.storage.safe_json import parse_json

BUFFER_BYTES = 8 * 2**20
"""Bytes that are fetched ahead while a tar is scanned."""
CLASS_KEYS = ("wnid", "class_name", "label", "cls")


@dataclass(frozen=True, kw_only=True, order=True)
class _Image:
    """An image in a tar."""

    name: str
    tar: str
    offset: int
    size: int
    class_name: str
    """Its class as the sample spells it."""


@dataclass(frozen=True, kw_only=True)
class _Sample:
    """Consecutive members of one key."""

    key: str
    images: list[tuple[str, int, int]] = field(default_factory=list)
    """Name, offset and size of each."""
    texts: dict[str, bytes] = field(default_factory=dict)
    """Content of the members that may name the class, by ending."""


class WebDataset:
    """Encoded images in plain tar files."""

    def __init__(self, data: Data, listing: SourceListing | None = None) -> None:
        self.root = root_of(data, "a folder of .tar files")
        self._listing = listing

    def index(self) -> SourceIndex:
        states = [f"{split}/{file.name}:{file.state}" for split, files in self._files.items() for file in files]
        return SourceIndex(
            class_names=self._class_names,
            counts={split: tuple(map(len, by_class)) for split, by_class in self._entries.items()},
            fingerprint=fingerprint("webdataset", *states),
            listing=self._entries,
        )

    def read(self, split: str, labels: Collection[int]) -> Iterator[Item]:
        threads = 1 if storage.is_local(self.root) else REQUESTS
        for label in sorted(labels):
            entries = self._listing.images(split, label) if self._listing else self._entries[split][label]

            def content(entry: list[str | int]) -> bytes:
                return part_of(storage.join(self.root, str(entry[0])), int(entry[2]), int(entry[3]))

            for (tar, name, *_), image in in_threads(entries, content, threads):
                yield Item(
                    label=label, path=str(name), content=image, where=f"{storage.join(self.root, str(tar))}:{name}"
                )

    @cached_property
    def _files(self) -> dict[str, list[File]]:
        files = {file.name: file for file in files_in(self.root, (".tar",))}
        if not files:
            compressed = files_in(self.root, (".tar.gz", ".tgz", ".tar.zst", ".tar.bz2"))
            advice = "its compressed tars must be unpacked to plain .tar first" if compressed else "expected *.tar"
            raise UserError(f"{self.root}: holds no .tar files; {advice}")
        return {split: [files[name] for name in names] for split, names in splits(list(files)).items()}

    @cached_property
    def _images(self) -> dict[str, list[_Image]]:
        threads = 1 if storage.is_local(self.root) else REQUESTS // 2
        images = {
            split: sorted(image for _, scanned in in_threads(files, self._scan, threads) for image in scanned)
            for split, files in self._files.items()
        }
        if not images["train"]:
            raise UserError(f"{self.root}: its tars hold no images; expected samples such as KEY.jpg with KEY.cls")
        return images

    @cached_property
    def _class_names(self) -> tuple[str, ...]:
        names = {image.class_name for image in self._images["train"]}
        return tuple(sorted(names, key=int) if all(name.isdecimal() for name in names) else sorted(names))

    @cached_property
    def _entries(self) -> Listing:
        """Tar, name, offset and size of every image."""
        listing: Listing = {}
        for split, images in self._images.items():
            by_class: dict[str, list[list[str | int]]] = {name: [] for name in self._class_names}
            for image in images:
                if image.class_name in by_class:
                    by_class[image.class_name].append([image.tar, image.name, image.offset, image.size])
            listing[split] = tuple(by_class.values())
        return listing

    def _scan(self, file: File) -> list[_Image]:
        """The images of a tar; the content of images in a local tar is skipped."""
        place = storage.join(self.root, file.name)
        with open_tar(place, BUFFER_BYTES) as tar:
            return [image for sample in _samples(tar) for image in _images_of(sample, file.name, place)]


def _samples(tar: tarfile.TarFile) -> Iterator[_Sample]:
    sample = _Sample(key="")
    for member in members(tar):
        key, ending = _split_name(member.name)
        if key != sample.key:
            yield sample
            sample = _Sample(key=key)
        if member.name.lower().endswith(EXTENSIONS):
            sample.images.append((member.name, member.offset_data, member.size))
        elif ending in ("cls", "json", "cls.txt"):
            sample.texts[ending] = text_of(tar, member)
    yield sample


def _split_name(name: str) -> tuple[str, str]:
    """Key and ending of a member: WebDataset splits at the first dot of the last part of the name."""
    folder, slash, last = name.rpartition("/")
    stem, _, ending = last.partition(".")
    return folder + slash + stem, ending.lower()


def _images_of(sample: _Sample, tar: str, place: str) -> list[_Image]:
    """The image of a sample; none if the sample has no image."""
    if not sample.images:
        return []
    if len(sample.images) > 1:
        names = listed(name for name, _, _ in sample.images)
        raise UserError(f"{place}: sample {sample.key!r} has several images ({names}); keep one")
    class_name = _class_of(sample)
    if not class_name:
        raise UserError(
            f"{place}: sample {sample.key!r} has no class; it needs a .cls member, a .json with one of {', '.join(CLASS_KEYS)}, "
            "or a folder in its key"
        )
    ((name, offset, size),) = sample.images
    return [_Image(name=name, tar=tar, offset=offset, size=size, class_name=class_name)]


def _class_of(sample: _Sample) -> str:
    try:
        for ending in ("cls", "cls.txt"):
            if ending in sample.texts:
                return sample.texts[ending].decode().strip()
        described: Any = parse_json(sample.texts["json"]) if "json" in sample.texts else {}
    except (UnicodeDecodeError, ValueError):
        return ""
    if isinstance(described, dict):
        for name in CLASS_KEYS:
            if isinstance(described.get(name), str | int) and str(described[name]):
                return str(described[name])
    folder = sample.key.rpartition("/")[0].rpartition("/")[2]
    return "" if split_of(folder) else folder
