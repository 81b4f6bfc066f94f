"""Folders of images: PATH/train/CLASS/*.jpg and PATH/test (or val)/CLASS/*.jpg, or PATH/CLASS/*.jpg alone."""

from collections.abc import Collection, Iterator
from functools import cached_property

from pipeline import storage
from pipeline.config.run_config import Data
from pipeline.data.sources.file_layout import prefer_test, root_of, split_of
from pipeline.data.sources.protocol import Item, SourceIndex, SourceListing, fingerprint
from pipeline.errors import UserError
from pipeline.storage.files import REQUESTS, File, files_in, in_threads, read_ahead

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")


class ImageFolder:
    """One folder per class and split; classes in the order of their names, images in the order of their relative paths."""

    def __init__(self, data: Data, listing: SourceListing | None = None) -> None:
        self.root = root_of(data, "a folder of class folders")
        self._listing = listing
        self._files_of: dict[tuple[str, str], list[File]] = {}

    def index(self) -> SourceIndex:
        files = {split: self._all(split) for split in self._folders}
        names = tuple(sorted(name for name, own in files["train"].items() if own))
        if not names:
            raise UserError(
                f"{self._folders['train']}: holds no images in class folders; "
                f"expected CLASS/*.{{{','.join(e[1:] for e in EXTENSIONS[:3])},...}}"
            )
        states = [
            f"{split}/{name}/{file.name}:{file.state}"
            for split, by_class in files.items()
            for name in names
            for file in by_class.get(name, ())
        ]
        return SourceIndex(
            class_names=names,
            counts={split: tuple(len(by_class.get(name, ())) for name in names) for split, by_class in files.items()},
            fingerprint=fingerprint("image_folder", *states),
        )

    def read(self, split: str, labels: Collection[int]) -> Iterator[Item]:
        names = self._listing.class_names if self._listing else self.index().class_names
        for label in sorted(labels):
            name = names[label]
            folder = storage.join(self._folders[split], name)
            for file, content in read_ahead(
                self._files(split, name), lambda file, at=folder: storage.join(at, file.name)
            ):
                where = storage.join(folder, file.name)
                path = where.removeprefix(self.root).lstrip("/")
                yield Item(label=label, path=path, content=content, where=where)

    @cached_property
    def _folders(self) -> dict[str, str]:
        # The folder of a split contains class folders; a folder of images that is called "train" is a class.
        named = [name for name in storage.folders_below(self.root) if split_of(name)]
        inner = [name for name in named if storage.folders_below(storage.join(self.root, name))]
        trains = [name for name in inner if split_of(name) == "train"]
        if not trains:
            return {"train": self.root}
        tests = prefer_test(inner)
        return {
            split: storage.join(self.root, names[0]) for split, names in (("train", trains), ("test", tests)) if names
        }

    def _all(self, split: str) -> dict[str, list[File]]:
        folder = self._folders[split]
        names = [name for name in storage.folders_below(folder) if not name.startswith(".")]
        threads = 1 if storage.is_local(folder) else REQUESTS
        return dict(in_threads(names, lambda name: self._files(split, name), threads))

    def _files(self, split: str, name: str) -> list[File]:
        if (split, name) not in self._files_of:
            folder = storage.join(self._folders[split], name)
            exists = not storage.is_local(folder) or storage.is_folder(folder)
            self._files_of[split, name] = files_in(folder, EXTENSIONS) if exists else []
        return self._files_of[split, name]
