"""What sources of many files share: their root, and which file belongs to which split."""

from collections.abc import Collection
from pathlib import Path

from pipeline import storage
from pipeline.config.run_config import Data
from pipeline.errors import UserError


def split_of(name: str) -> str | None:
    """``train`` or ``test`` by the beginning of a file's or folder's name (``val`` counts as test)."""
    lowered = name.lower()
    if lowered.startswith("train"):
        return "train"
    return "test" if lowered.startswith(("test", "val")) else None


def prefer_test(names: Collection[str]) -> list[str]:
    """Of the names that ``split_of`` calls test: those that begin with test, or with val where none does."""
    tests = [name for name in names if name.lower().startswith("test")]
    return tests or [name for name in names if name.lower().startswith("val")]


def root_of(data: Data, what: str, *, file: bool = False) -> str:
    """The absolute root of a source.

    Args:
        data: its settings.
        what: is needed there, for messages.
        file: whether a file serves as well as a folder.

    Raises:
        UserError: no path, or nothing of the kind there.
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
    there = "is not a folder" if storage.is_local(root) and Path(root).exists() else "does not exist"
    raise UserError(f"{root}: {there}; data.source={data.source} needs {what}")


def splits(names: list[str]) -> dict[str, list[str]]:
    """Files by split: their names, or those of the folders that they are in, begin with train, test or val.

    Files without a split's name are the training ones, where others say that they are for tests.
    """
    parts = {name: name.split("/") for name in names}
    trains = [name for name in names if any(split_of(part) == "train" for part in parts[name])]
    if not trains:
        trains = [name for name in names if not any(split_of(part) for part in parts[name])] or names
    held = prefer_test({part for name in names if name not in set(trains) for part in parts[name]})
    training = set(trains)
    tests = [name for name in names if name not in training and any(part in held for part in parts[name])]
    return {"train": trains} | ({"test": tests} if tests else {})
