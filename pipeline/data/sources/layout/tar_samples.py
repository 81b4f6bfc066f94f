"""Samples of a tar: consecutive members of one key, an image and what names its class.

A sample whose class is named in a way that is not understood does not get the class of its folder instead.
"""

import re
import tarfile
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from m3d.pulse import beat
from pipeline import storage
from pipeline.data.image_formats import image_endings
from pipeline.data.sources.file_layout import ending_of, is_private
from pipeline.data.sources.findings import EXAMPLES
from pipeline.data.sources.layout.split_words import is_exact, kind_of
from pipeline.data.sources.layout.tar_members import members, text_of
from pipeline.errors import UserError, listed
from pipeline.storage.local.regular_files import IMAGE_BYTES, require_size
from pipeline.storage.safe_json import parse_json

CLASS_KEYS = ("wnid", "class_name", "label", "cls")
LIKE_CLASS = re.compile("class|label|categor|target|wnid|synset|species|cls", re.IGNORECASE)
"""What the keys of a .json contain that probably name a class in a way that is not read."""
NEEDED = f"a .cls member, a .json with one of {', '.join(CLASS_KEYS)}, or a folder in its key"


@dataclass(frozen=True, kw_only=True, order=True)
class TarImage:
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
    others: list[str] = field(default_factory=list)
    """Endings of the other members."""


@dataclass(kw_only=True)
class TarScan:
    """What is in a tar."""

    tar: str
    """Its path in the source."""
    place: str
    """Its path, for messages."""
    images: list[TarImage] = field(default_factory=list)
    problem: str = ""
    """Why the first sample without a class has none; empty if all have one."""
    undecided: str = ""
    """Which sample has the class of its folder although another member may name it; empty if there is none."""
    splits: set[str] = field(default_factory=set)
    """Splits that the folders of the images name, except those that give their images a class."""
    class_folders: set[str] = field(default_factory=set)
    """Folders that give their images a class."""
    split_folder: str = ""
    """Which sample has the class of a folder that may be a split instead; empty if there is none."""
    left_out: dict[str, tuple[int, list[str]]] = field(default_factory=dict)
    """Number and first ones of the members that are not read, by reason."""
    alone: tuple[set[str], set[str]] = field(default_factory=lambda: (set(), set()))
    """Keys of images without a text beside them, and of texts without an image."""

    def leave_out(self, reason: str, name: str) -> None:
        """Counts a member that is not read."""
        count, examples = self.left_out.get(reason, (0, []))
        self.left_out[reason] = count + 1, [*examples, name] if count < EXAMPLES else examples

    def add(self, sample: "_Sample") -> None:
        """Adds the image of a sample, if it has one."""
        if len(sample.images) > 1:
            names = listed(name for name, _, _ in sample.images)
            raise UserError(f"{self.place}: sample {sample.key!r} has several images ({names}); keep one")
        if not sample.images:
            if sample.texts:
                self.alone[1].add(sample.key)
                self.leave_out("class without an image", sample.key)
            return
        if not sample.texts:
            self.alone[0].add(sample.key)
        *above, own = _folders(sample.key) or [""]
        named, problem = _class_of(sample)
        class_name = storage.readable(own) if named is None else named
        text = f"{self.place}: sample {storage.readable(sample.key)!r} has no class{problem and f': {problem}'}; it needs {NEEDED}"
        if not class_name:
            self.problem = self.problem or text
            return
        if problem:
            self.undecided = self.undecided or text
        ((name, offset, size),) = sample.images
        if named is None:
            self.class_folders.add(own)
            self.split_folder = self.split_folder or (text if is_exact(own) else "")
        self.splits |= {
            str(kind_of(folder)) for folder in (above if named is None else [*above, own]) if is_exact(folder)
        }
        self.images.append(TarImage(name=name, tar=self.tar, offset=offset, size=size, class_name=class_name))

    def require_together(self) -> None:
        """Raises UserError if the image and the class of a sample do not stand together: the class would be lost."""
        if apart := sorted(self.alone[0] & self.alone[1]):
            raise UserError(
                f"{self.place}: the members of sample {storage.readable(apart[0])!r} do not stand together; pack the tar again "
                "in the order of the names (tar --sort=name)"
            )


def without_class(scans: Sequence[TarScan], classes: Collection[str] = ()) -> str:
    """Returns why an image of some tars has no class; empty if all have one.

    Folders called ``train`` and the like are classes if there are other class folders beside them.

    Args:
        scans: what is in the tars.
        classes: names of classes that are known anyway.
    """
    folders = {folder for scan in scans for folder in scan.class_folders}
    only_splits = all(map(is_exact, folders)) and folders.isdisjoint(classes)
    problems = (scan.problem or (scan.split_folder if only_splits else "") for scan in scans)
    return next(filter(None, problems), "")


def samples(tar: tarfile.TarFile, scan: TarScan) -> Iterator[_Sample]:
    sample = _Sample(key="")
    for member in members(tar):
        beat()
        if member.isdir():
            continue
        if any(map(is_private, _parts(member.name))):
            scan.leave_out("hidden or of the system", member.name)
            continue
        if not member.isfile():
            scan.leave_out("link in a tar", member.name)
            continue
        key, ending = _split_name(member.name)
        if key != sample.key:
            yield sample
            sample = _Sample(key=key)
        if member.name.lower().endswith(image_endings()):
            require_size(f"{scan.place}: member {storage.readable(member.name)!r}", member.size, IMAGE_BYTES)
            sample.images.append((member.name, member.offset_data, member.size))
        elif ending in ("cls", "json", "cls.txt"):
            sample.texts[ending] = text_of(tar, member)
        else:
            sample.others.append(ending)
            scan.leave_out(ending_of(member.name), member.name)
    yield sample


def _split_name(name: str) -> tuple[str, str]:
    """Key and ending of a member: WebDataset splits at the first dot of the last part of the name."""
    folder, slash, last = name.rpartition("/")
    stem, _, ending = last.partition(".")
    return folder + slash + stem, ending.lower()


def _parts(name: str) -> list[str]:
    return [part for part in name.split("/") if part not in ("", ".", "..")]


def _folders(key: str) -> list[str]:
    """The folders of a key; ``.`` is none."""
    return _parts(key.rpartition("/")[0])


def _class_of(sample: _Sample) -> tuple[str | None, str]:
    """The class that a member names, empty if that cannot be read, None if the folder decides; and why no member names it."""
    for ending in ("cls", "cls.txt"):
        if ending in sample.texts:
            try:
                name = sample.texts[ending].decode().strip()
            except UnicodeDecodeError:
                return "", f"its .{ending} is not text"
            return name, "" if name else f"its .{ending} is empty"
    problem = f"its .{listed(sample.others)} is not read" if sample.others else ""
    if "json" in sample.texts:
        try:
            described: Any = parse_json(sample.texts["json"], any_number=True)
        except ValueError:
            return "", "its .json is not valid"
        if not isinstance(described, dict):
            return "", "its .json is no object with keys"
        for key in CLASS_KEYS:
            if name := _class_text(described.get(key)):
                return name, ""
        problem = f"its .json has {listed(map(repr, described)) or 'no keys'}"
        if any(LIKE_CLASS.search(str(key)) for key in described):
            return "", problem
    return None, problem


def _class_text(value: Any) -> str:
    """A value of a .json as the name of a class; empty if it is none."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return storage.readable(str(value)).strip() if isinstance(value, str | int) and not isinstance(value, bool) else ""
