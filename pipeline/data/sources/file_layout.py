"""What sources of many files share: their root, and which file belongs to which split."""

from collections.abc import Collection
from pathlib import Path

from pipeline import storage
from pipeline.config.run_config import Data
from pipeline.errors import UserError


def split_of(name: str) -> str | None:
    """Returns ``train`` or ``test`` by how a file's or folder's name begins (``val`` counts as test), or None."""
    lowered = name.lower()
    if lowered.startswith("train"):
        return "train"
    return "test" if lowered.startswith(("test", "val")) else None


def prefer_test(names: Collection[str]) -> list[str]:
    """Returns the names that begin with test, or those that begin with val if no name begins with test."""
    tests = [name for name in names if name.lower().startswith("test")]
    return tests or [name for name in names if name.lower().startswith("val")]


def root_of(data: Data, what: str, *, file: bool = False) -> str:
    """Returns the absolute root of a source.

    Args:
        data: settings of the source.
        what: what the root must be, for messages.
        file: whether the root may be a file as well as a folder.

    Raises:
        UserError: no path is given, or there is nothing of the kind.
    """
    if data.path is None:
        raise UserError(f"data.path: not given, needed for data.source={data.source}; pass --data PATH")
    root = storage.absolute(data.path)
    if not storage.is_local(root):
        storage.require_reachable(root)
        if storage.exists(root):
            return root
    elif Path(root).is_dir() or (file and Path(root).exists()):
        return root
    problem = "is not a folder" if storage.is_local(root) and Path(root).exists() else "does not exist"
    raise UserError(f"{root}: {problem}; data.source={data.source} needs {what}")


def splits(names: list[str]) -> dict[str, list[str]]:
    """Returns files by split: their names, or the names of the folders above them, begin with train, test or val.

    Files without a split in their names are training files, if there are others for testing.
    """
    parts = {name: name.split("/") for name in names}
    trains = [name for name in names if any(split_of(part) == "train" for part in parts[name])]
    if not trains:
        trains = [name for name in names if not any(split_of(part) for part in parts[name])] or names
    training = set(trains)
    marks = prefer_test({part for name in names if name not in training for part in parts[name]})
    tests = [name for name in names if name not in training and any(part in marks for part in parts[name])]
    return {"train": trains} | ({"test": tests} if tests else {})
