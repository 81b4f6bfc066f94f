"""Lists all files below a folder, in the same way on this machine and in a bucket.

Files and folders of private names are kept apart and not entered. Each real folder is listed once: a link to a folder
that is listed anyway is not followed. What cannot be read, such as a link to nothing, is listed with its problem.
"""

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field

from m3d.pulse import beat
from pipeline import storage
from pipeline.errors import UserError
from pipeline.storage.files import REQUESTS, File, in_threads
from pipeline.storage.objects import operate

Private = Callable[[str], bool]
"""Whether the name of a file or folder, without the folders above it, is private."""
LEVELS = 3
"""Levels of a bucket that are listed one by one to find folders that can be listed in parallel."""


@dataclass(frozen=True, kw_only=True)
class Tree:
    """Everything below a folder, by paths relative to it; every list is sorted."""

    files: list[File] = field(default_factory=list)
    """Files without private names on their paths."""
    folders: list[str] = field(default_factory=list)
    """Their folders, and empty ones."""
    private: list[str] = field(default_factory=list)
    """Private files and folders; what is below a private folder is not listed."""
    repeated: list[str] = field(default_factory=list)
    """Links to folders that are listed anyway."""
    links: dict[str, str] = field(default_factory=dict)
    """Links to folders that were followed, and their real paths."""


def list_tree(root: str, private: Private, below: str = "") -> Tree:
    """Returns what is below a folder.

    Args:
        root: local path or URL of the folder that bounds what links are followed: those that lead out of it.
        private: which names are left out.
        below: folder in ``root`` to list instead of all of it; paths are then relative to that folder.

    Raises:
        UserError: a folder cannot be listed, or two links lead to the same folder.
    """
    place = storage.join(root, below) if below else root
    if storage.is_local(root):
        tree = _local_tree(storage.absolute(root), storage.absolute(place), below, private)
    else:
        objects = storage.tree(place) if below else _objects(place)
        tree = _tree_of(objects, private)
    for entries in (tree.files, tree.folders, tree.private, tree.repeated):
        entries.sort()
    _require_different(place, tree.links)
    return tree


def _local_tree(root: str, place: str, below: str, private: Private) -> Tree:
    tree, parts = Tree(), below.split("/") if below else []
    above = [os.path.join(root, *parts[:count]) for count in range(len(parts) + 1)]
    bases = tuple(os.path.realpath(path) for i, path in enumerate(above) if i == 0 or os.path.islink(path))
    waiting = [(place, "", bases)]
    while waiting:
        beat()
        folder, prefix, bases = waiting.pop()
        for entry in _entries(folder):
            name = f"{prefix}{entry.name}"
            if private(entry.name):
                tree.private.append(name)
            elif not _is_folder(entry):
                tree.files.append(_file(entry, name))
            elif not entry.is_symlink():
                tree.folders.append(name)
                waiting.append((entry.path, f"{name}/", bases))
            elif _is_listed_anyway(target := os.path.realpath(entry.path), bases, private):
                tree.repeated.append(name)
            else:
                tree.folders.append(name)
                tree.links[name] = target
                waiting.append((entry.path, f"{name}/", (*bases, target)))
    return tree


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be listed ({error.strerror or error}); allow it to be read, or move it away"
        ) from None


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _file(entry: os.DirEntry[str], name: str) -> File:
    try:
        state = entry.stat()
    except OSError as error:
        what = "is a link to nothing" if entry.is_symlink() else "cannot be read"
        return File(name=name, state="unreadable", problem=f"it {what} ({error.strerror or error})")
    if not stat.S_ISREG(state.st_mode):
        return File(name=name, state="unreadable", problem="it is no regular file, but a pipe, a socket or a device")
    return File(name=name, state=f"{state.st_size}:{state.st_mtime_ns}")


def _is_listed_anyway(target: str, bases: tuple[str, ...], private: Private) -> bool:
    """Whether a folder is below one of the folders that are being listed, or above it."""
    return any(
        _is_below(base, target)
        or (_is_below(target, base) and not any(map(private, os.path.relpath(target, base).split("/"))))
        for base in bases
    )


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder.rstrip('/')}/")


def _require_different(place: str, links: dict[str, str]) -> None:
    """Raises UserError if a folder would be listed twice, by two links that lead to it or to a folder above it."""
    before = ("", "")
    # In the order of their parts, what is below a folder follows it at once: "a/b" comes before "a.b".
    for target, name in sorted(
        ((target, name) for name, target in links.items()), key=lambda e: (e[0].split("/"), e[1])
    ):
        if before[1] and _is_below(target, before[1]):
            raise UserError(
                f"{place}: {before[0]} and {name} are links that lead to the same files ({target}); remove one of them"
            )
        before = (name, target)


def _objects(root: str) -> list[tuple[str, int, str]]:
    """Name, size and ETag of all objects; if there are many folders, they are listed in parallel."""
    objects: list[tuple[str, int, str]] = []
    folders = [""]
    for _ in range(LEVELS):
        if not 0 < len(folders) < REQUESTS:
            break
        levels = list(in_threads(folders, lambda folder: _level(root, folder), REQUESTS))
        objects += [entry for _, (_, files) in levels for entry in files]
        folders = [folder for _, (inner, _) in levels for folder in inner]
    trees = in_threads(folders, lambda folder: storage.tree(storage.join(root, folder)), REQUESTS)
    return objects + [(f"{folder}/{name}", size, tag) for folder, tree in trees for name, size, tag in tree]


def _level(root: str, folder: str) -> tuple[list[str], list[tuple[str, int, str]]]:
    """Folders and objects directly in a folder of a bucket."""
    path = storage.join(root, folder) if folder else root
    try:
        entries = operate(path, lambda fs, place: [(place, entry) for entry in fs.ls(place, detail=True)])
    except FileNotFoundError:
        return [], []
    folders, objects = [], []
    for place, entry in entries:
        last = entry["name"].rstrip("/").removeprefix(place.strip("/")).rpartition("/")[2]
        name = f"{folder}/{last}" if folder else last
        if last and entry["type"] == "directory":
            folders.append(name)
        elif last:
            objects.append((name, int(entry["size"]), str(entry.get("ETag", "")).strip('"')))
    return folders, objects


def _tree_of(objects: list[tuple[str, int, str]], private: Private) -> Tree:
    files, folders, hidden = [], set(), set()
    for name, size, tag in objects:
        parts = name.strip("/").split("/")
        first = next((i for i, part in enumerate(parts) if private(part)), None)
        if first is not None:
            hidden.add("/".join(parts[: first + 1]))
            parts = parts[: first + 1]
        elif name.endswith("/") or not name:  # the marker object of a folder
            parts.append("")
        else:
            files.append(File(name=name, state=f"{size}:{tag}"))
        folders.update("/".join(parts[:count]) for count in range(1, len(parts)))
    return Tree(files=files, folders=list(folders - {""}), private=list(hidden))
