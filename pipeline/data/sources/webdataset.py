"""WebDataset: tar files of samples, each a few members of one key: an image, and its class in .cls or .json.

PATH is a folder of .tar files, with the splits as folders or as prefixes of file names. The class of a sample is what
its .cls member says (an integer or a name), else ``wnid``, ``class_name`` or ``label`` of its .json, else the last
folder of its key. Images come in the order of their names. The tars are gone through once, when a run is planned;
workers fetch their images by offset.
"""

import json
import tarfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pipeline import storage
from pipeline.config.run_config import Data
from pipeline.data.sources.file_layout import root_of, split_of, splits
from pipeline.data.sources.image_folder import EXTENSIONS
from pipeline.data.sources.protocol import Item, Listing, SourceIndex, SourceListing, fingerprint
from pipeline.errors import UserError, listed
from pipeline.storage.files import REQUESTS, File, files_in, in_threads, open_binary, part_of

BUFFER_BYTES = 8 * 2**20
"""Fetched at once while a tar is gone through."""
CLASS_KEYS = ("wnid", "class_name", "label", "cls")


@dataclass(frozen=True, kw_only=True, order=True)
class _Image:
    """An image in a tar."""

    name: str
    tar: str
    offset: int
    size: int
    held: str
    """Its class, as the sample says it."""


class WebDataset:
    """Encoded images in plain tar files."""

    def __init__(self, data: Data, known: SourceListing | None = None) -> None:
        self.root = root_of(data, "a folder of .tar files")
        self._known = known

    def index(self) -> SourceIndex:
        described = [f"{split}/{file.name}:{file.state}" for split, files in self._files.items() for file in files]
        return SourceIndex(
            class_names=self._class_names,
            counts={split: tuple(map(len, held)) for split, held in self._listing.items()},
            fingerprint=fingerprint("webdataset", *described),
            listing=self._listing,
        )

    def read(self, split: str, labels: Collection[int]) -> Iterator[Item]:
        threads = 1 if storage.is_local(self.root) else REQUESTS
        for label in sorted(labels):
            entries = self._known.listing(split, label) if self._known else self._listing[split][label]

            def content(entry: list[str | int]) -> bytes:
                return part_of(storage.join(self.root, str(entry[0])), int(entry[2]), int(entry[3]))

            for (tar, name, *_), held in in_threads(entries, content, threads):
                yield Item(
                    label=label, path=str(name), content=held, where=f"{storage.join(self.root, str(tar))}:{name}"
                )

    @cached_property
    def _files(self) -> dict[str, list[File]]:
        files = {file.name: file for file in files_in(self.root, (".tar",))}
        if not files:
            packed = files_in(self.root, (".tar.gz", ".tgz", ".tar.zst", ".tar.bz2"))
            advice = "its compressed tars must be unpacked to plain .tar first" if packed else "expected *.tar"
            raise UserError(f"{self.root}: holds no .tar files; {advice}")
        return {split: [files[name] for name in names] for split, names in splits(list(files)).items()}

    @cached_property
    def _images(self) -> dict[str, list[_Image]]:
        threads = 1 if storage.is_local(self.root) else REQUESTS // 2
        found = {
            split: sorted(image for _, held in in_threads(files, self._scan, threads) for image in held)
            for split, files in self._files.items()
        }
        if not found["train"]:
            raise UserError(f"{self.root}: its tars hold no images; expected samples such as KEY.jpg with KEY.cls")
        return found

    @cached_property
    def _class_names(self) -> tuple[str, ...]:
        held = {image.held for image in self._images["train"]}
        if all(one.isdecimal() for one in held):
            return tuple(sorted(held, key=int))
        return tuple(sorted(held))

    @cached_property
    def _listing(self) -> Listing:
        made: Listing = {}
        for split, images in self._images.items():
            by_class: dict[str, list[list[str | int]]] = {name: [] for name in self._class_names}
            for image in images:
                if image.held in by_class:
                    by_class[image.held].append([image.tar, image.name, image.offset, image.size])
            made[split] = tuple(by_class.values())
        return made

    def _scan(self, file: File) -> list[_Image]:
        """The images of a tar, without reading them where it is local."""
        place = storage.join(self.root, file.name)
        found: list[_Image] = []
        try:
            with open_binary(place, BUFFER_BYTES) as stream, tarfile.open(fileobj=stream, mode="r:") as tar:
                key, images, said = "", [], {}
                for member in tar:
                    if not member.isfile():
                        continue
                    before, ending = _cut(member.name)
                    if before != key:
                        found += _sample(file.name, key, images, said, place)
                        key, images, said = before, [], {}
                    if member.name.lower().endswith(EXTENSIONS):
                        images.append((member.name, member.offset_data, member.size))
                    elif ending in ("cls", "json", "cls.txt"):
                        opened = tar.extractfile(member)
                        said[ending] = opened.read() if opened else b""
                found += _sample(file.name, key, images, said, place)
        except (tarfile.TarError, OSError, EOFError) as error:
            raise UserError(f"{place}: is not a whole plain tar file ({error}); fetch it again, or unpack it") from None
        return found


def _cut(name: str) -> tuple[str, str]:
    """Key and ending of a member: WebDataset cuts at the first point of the last part of the name."""
    folder, slash, last = name.rpartition("/")
    stem, _, ending = last.partition(".")
    return folder + slash + stem, ending.lower()


def _sample(tar: str, key: str, images: list[tuple[str, int, int]], said: dict[str, bytes], place: str) -> list[_Image]:
    if not images:
        return []
    if len(images) > 1:
        raise UserError(
            f"{place}: sample {key!r} has several images ({listed(name for name, _, _ in images)}); keep one"
        )
    held = _class(key, said)
    if not held:
        raise UserError(
            f"{place}: sample {key!r} has no class; it needs a .cls member, a .json with one of {', '.join(CLASS_KEYS)}, "
            "or a folder in its key"
        )
    ((name, offset, size),) = images
    return [_Image(name=name, tar=tar, offset=offset, size=size, held=held)]


def _class(key: str, said: dict[str, bytes]) -> str:
    try:
        for ending in ("cls", "cls.txt"):
            if ending in said:
                return said[ending].decode().strip()
        about: Any = json.loads(said["json"]) if "json" in said else {}
    except (UnicodeDecodeError, ValueError):
        return ""
    if isinstance(about, dict):
        for name in CLASS_KEYS:
            if isinstance(about.get(name), str | int) and str(about[name]):
                return str(about[name])
    folder = key.rpartition("/")[0].rpartition("/")[2]
    return "" if split_of(folder) else folder
