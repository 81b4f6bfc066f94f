"""Folders of images: PATH/train/CLASS/*.jpg and PATH/test (or val)/CLASS/*.jpg, or PATH/CLASS/*.jpg alone."""

import os
from collections.abc import Collection, Iterator
from functools import cached_property
from pathlib import Path

from pipeline.config import Data
from pipeline.errors import UserError
from pipeline.sources.protocol import Item, SourceIndex, fingerprint, prefer_test, split_of

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")


class ImageFolder:
    """One folder per class and split; classes in the order of their names, images by relative path."""

    def __init__(self, data: Data) -> None:
        if data.path is None:
            raise UserError("data.path: not given, needed for data.source=image_folder; pass --data PATH")
        self.root = Path(data.path).expanduser().absolute()
        if not self.root.is_dir():
            what = "is not a folder" if self.root.exists() else "does not exist"
            raise UserError(f"{self.root}: {what}; data.source=image_folder needs a folder of class folders")

    def index(self) -> SourceIndex:
        names = self._class_names
        counts = {split: tuple(len(self._files[split].get(name, ())) for name in names) for split in self._files}
        described = [
            f"{split}/{name}/{file}:{state}"
            for split, held in self._files.items()
            for name in names
            for file, state in held.get(name, ())
        ]
        return SourceIndex(class_names=names, counts=counts, fingerprint=fingerprint("image_folder", *described))

    def read(self, split: str, labels: Collection[int]) -> Iterator[Item]:
        for label, name in enumerate(self._class_names):
            if label not in labels:
                continue
            for file, _ in self._files[split].get(name, ()):
                path = self._folders[split] / name / file
                try:
                    content = path.read_bytes()
                except OSError as error:
                    raise UserError(
                        f"{path}: cannot be read ({error.strerror}); the source changed while it was read"
                    ) from None
                yield Item(label=label, path=str(path.relative_to(self.root)), content=content, where=str(path))

    @cached_property
    def _folders(self) -> dict[str, Path]:
        # A split holds class folders; a folder of images that is called "train" is a class.
        folders = [entry for entry in self.root.iterdir() if entry.is_dir()]
        inner = sorted(entry.name for entry in folders if any(child.is_dir() for child in entry.iterdir()))
        trains = [name for name in inner if split_of(name) == "train"]
        if not trains:
            return {"train": self.root}
        tests = prefer_test(inner)
        return {"train": self.root / trains[0]} | ({"test": self.root / tests[0]} if tests else {})

    @cached_property
    def _files(self) -> dict[str, dict[str, list[tuple[str, str]]]]:
        found = {split: _images_by_class(folder) for split, folder in self._folders.items()}
        if not any(found["train"].values()):
            raise UserError(
                f"{self._folders['train']}: holds no images in class folders; "
                f"expected CLASS/*.{{{','.join(e[1:] for e in EXTENSIONS[:3])},...}}"
            )
        return found

    @cached_property
    def _class_names(self) -> tuple[str, ...]:
        return tuple(sorted(name for name, files in self._files["train"].items() if files))


def _images_by_class(folder: Path) -> dict[str, list[tuple[str, str]]]:
    held: dict[str, list[tuple[str, str]]] = {}
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.is_dir() and not entry.name.startswith("."):
            held[entry.name] = sorted(_walk(Path(entry.path), Path(entry.path)))
    return held


def _walk(folder: Path, root: Path) -> Iterator[tuple[str, str]]:
    for entry in os.scandir(folder):
        if entry.is_dir():
            yield from _walk(Path(entry.path), root)
        elif entry.name.lower().endswith(EXTENSIONS) and not entry.name.startswith("."):
            state = entry.stat()
            yield str(Path(entry.path).relative_to(root)), f"{state.st_size}:{state.st_mtime_ns}"
