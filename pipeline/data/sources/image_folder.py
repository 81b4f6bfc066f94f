"""Folders of images: PATH/train/CLASS/*.jpg and PATH/test (or val)/CLASS/*.jpg, or PATH/CLASS/*.jpg alone.

A folder is a split if it is called exactly ``train`` or alike, or if all folders of images beside it are splits as well.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property

from pipeline import storage
from pipeline.config.run_config import Data
from pipeline.data.sources.file_layout import (
    in_label_order,
    is_private,
    labelled_test,
    left_out_for,
    left_out_of,
    other_endings,
    root_of,
)
from pipeline.data.sources.findings import Findings
from pipeline.data.sources.layout.class_folders import SplitFolder, below, is_image, split_folders, split_of
from pipeline.data.sources.layout.split_words import TESTS
from pipeline.data.sources.protocol import Item, SourceIndex, SourceListing, fingerprint, spread
from pipeline.errors import UserError, listed
from pipeline.storage.file_tree import Tree, list_tree
from pipeline.storage.files import File, read_ahead


class ImageFolder:
    """One folder per class and split; classes in the order of their names, images in the order of their relative paths."""

    def __init__(self, data: Data, listing: SourceListing | None = None) -> None:
        self.root = root_of(data, "a folder of class folders")
        self._listing = listing
        self._names_classes = data.classes is not None or data.subset is not None

    def index(self) -> SourceIndex:
        used, raw = self._used, {storage.readable(name): name for name in self._splits["train"].classes}
        names = tuple(in_label_order(raw))
        states = [
            f"{split}/{raw[name]}/{file.name}:{file.state}"
            for split, own in used.items()
            for name in names
            for file in own.classes.get(raw[name], ())
        ]
        return SourceIndex(
            class_names=names,
            counts={split: tuple(len(own.classes.get(raw[name], ())) for name in names) for split, own in used.items()},
            fingerprint=fingerprint("image_folder", *states),
            folders={split: tuple(below(own.folder, raw[name]) for name in names) for split, own in used.items()},
            findings=self._findings(len(states)),
        )

    def read(self, split: str, labels: Collection[int], most: int | None = None) -> Iterator[Item]:
        folders = (self._listing or self.index()).folders[split]
        for label in sorted(labels):
            folder = storage.join(self.root, folders[label])
            files = [file for file in list_tree(self.root, is_private, folders[label]).files if is_image(file)]
            for file, content in read_ahead(spread(files, most), folder):
                yield Item(
                    label=label,
                    path=storage.readable(f"{folders[label]}/{file.name}"),
                    content=content,
                    where=storage.readable(storage.join(folder, file.name)),
                    problem=file.problem,
                )

    @cached_property
    def _tree(self) -> Tree:
        return list_tree(self.root, is_private)

    @cached_property
    def _splits(self) -> dict[str, SplitFolder]:
        """The splits that the source has: train, and those of test and val that exist."""
        return {kind: split_of(self._tree, folder) for kind, folder in split_folders(self._tree, self.root).items()}

    @cached_property
    def _chosen(self) -> str | None:
        """The split that is used for testing, test or val; None if there is none."""
        train, tests = self._splits["train"], [kind for kind in TESTS if kind in self._splits]
        beside = [name for kind in tests for name in self._splits[kind].beside]
        hint = (
            f", in class folders (perhaps {storage.readable(beside[0])} says which)" if beside else ", in class folders"
        )
        held = {kind: lambda kind=kind: _readable(self._splits[kind].classes) for kind in tests}
        return labelled_test(held, _readable(train.classes), self.root, hint)

    @cached_property
    def _used(self) -> dict[str, SplitFolder]:
        """The splits that are read: train, and what is used for testing.

        Raises:
            UserError: a class folder, or every one, contains no image.
        """
        train = self._splits["train"]
        self._require_images(train.without)
        if not train.classes:
            others = listed(
                f"{e.count} of {e.reason}" for e in other_endings(f for f in self._tree.files if not is_image(f))
            )
            raise UserError(
                f"{storage.join(self.root, train.folder).rstrip('/')}: holds no images in class folders; expected "
                f"CLASS/*.{{jpg,jpeg,png,...}}{others and f', found {others}'}"
            )
        if self._chosen is None:
            return {"train": train}
        test = self._splits[self._chosen]
        self._require_images({name: files for name, files in test.without.items() if name in train.classes})
        return {"train": train, "test": test}

    def _require_images(self, without: Mapping[str, Sequence[File]]) -> None:
        """Raises UserError if class folders hold files, but no image: leaving them out would give other labels."""
        names = _readable(name for name, files in without.items() if files)
        if names and not self._names_classes:
            endings = listed(e.reason for e in other_endings(file for files in without.values() for file in files))
            raise UserError(
                f"{self.root}: the class folders {listed(names)} hold files, but no image that is read ({endings}); convert the "
                "files, remove the folders, or name the classes to use in data.classes"
            )

    def _findings(self, taken: int) -> Findings:
        """Accounts for every file: it is an image that is read, or it is left out for a reason."""
        tree, used, chosen = self._tree, self._used, self._chosen
        reasons: defaultdict[str, list[str]] = defaultdict(list)
        for file in filter(is_image, tree.files):
            if reason := self._why_not(file.name):
                reasons[reason].append(file.name)
        empty = [below(own.folder, name) for own in used.values() for name in own.without]
        left_out = [
            *left_out_of(tree),
            *other_endings(file for file in tree.files if not is_image(file)),
            *(entry for reason, names in reasons.items() for entry in left_out_for(reason, names)),
            *(replace(entry, unit="folder") for entry in left_out_for("class folder without images", empty)),
        ]
        splits = {
            split: f"folder {storage.readable(own.folder)}" if own.folder else "all class folders"
            for split, own in used.items()
        }
        if chosen == "val" and "test" in self._splits:
            splits["test"] += ", as test holds no images of the classes"
        found = len(tree.files) + len(tree.private) + len(tree.repeated)
        return Findings(found=found, taken=taken, left_out=tuple(left_out), splits=splits)

    @cached_property
    def _kinds(self) -> dict[str, str]:
        """The split of each folder of a split."""
        return {own.folder: kind for kind, own in self._splits.items()}

    def _why_not(self, name: str) -> str:
        """Why an image is not read; empty if it is."""
        top, _, rest = name.partition("/")
        kind, inner = ("train", name) if "" in self._kinds else (self._kinds.get(top, ""), rest)
        if not kind:
            return "outside of the folders of the splits"
        if kind not in ("train", self._chosen):
            return f"split {kind}, as {self._chosen} is used for testing"
        if "/" not in inner:
            return "not in a class folder"
        return "" if inner.partition("/")[0] in self._splits["train"].classes else "class without training images"


def _readable(names: Iterable[str]) -> list[str]:
    return [storage.readable(name) for name in names]
