"""How folders of images are laid out: which folders are splits, which are classes, and what is in neither."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline import storage
from pipeline.data.image_formats import image_endings
from pipeline.data.sources.layout.split_words import TESTS, Candidate, is_exact, kind_of, only_candidate, splits_among
from pipeline.errors import UserError, listed
from pipeline.storage.file_tree import Tree
from pipeline.storage.files import File

Classes = dict[str, list[File]]
"""Images by the name of their class folder; the names of the files are relative to it."""
EXPECTED = "splits are expected as PATH/train/CLASS and PATH/test/CLASS"


@dataclass(frozen=True, kw_only=True)
class SplitFolder:
    """A split and what is in it."""

    folder: str
    """Its folder within the source; empty if that is the source itself."""
    classes: Classes
    """Classes with images."""
    without: dict[str, list[File]]
    """Class folders without an image, and the files in them, by their paths in the source."""
    beside: list[str]
    """Files beside the class folders that are no images, by their paths in the source."""


def split_folders(tree: Tree, place: str) -> dict[str, str]:
    """Returns the folders of the splits of a tree: train, test and val; train alone may be the tree itself, as ``""``.

    Args:
        tree: files and folders of the source.
        place: the source, for messages.

    Raises:
        UserError: the folders have several readings.
    """
    inside, pictured = _children(tree), _with_images(tree)
    # Folders without images, such as "annotations", are neither splits nor classes beside them.
    beside = {
        folder: [name for name in names if below(folder, name) in pictured or kind_of(name)]
        for folder, names in inside.items()
    }
    tops = beside.get("", [])
    splits = {}
    for kind, names in splits_among(tops).items():
        # The folder of a split contains class folders; a folder of images that is called "train" is a class.
        files = {_candidate(kind, name): [name] for name in names if inside[name]}
        if chosen := only_candidate(files, place):
            splits[kind] = files[chosen][0]
    if "train" not in splits:
        _require_no_splits(tree, place, tops, inside)
        _require_no_splits_below(place, beside)
        return {"train": ""}
    _require_complete(tree, place, tops, splits)
    splits |= _flat_tests(place, [name for name in tops if name in pictured], splits)
    splits = {kind: splits[kind] for kind in ("train", *TESTS) if kind in splits}
    for split in splits.values():
        _require_not_doubled(place, split, beside.get(split, []), inside)
        _require_no_splits_below(
            place, {name: names for name, names in beside.items() if f"{name}/".startswith(f"{split}/")}
        )
    return splits


def split_of(tree: Tree, folder: str) -> SplitFolder:
    """Returns what is in a folder of a split; ``""`` is the tree itself."""
    start = below(folder, "")
    classes: Classes = {name: [] for name in _children(tree)[folder]}
    others: dict[str, list[File]] = {name: [] for name in classes}
    for file in tree.files:
        name, slash, rest = file.name.removeprefix(start).partition("/")
        if not file.name.startswith(start):
            continue
        if not is_image(file):
            others.setdefault(name if slash else "", []).append(file)
        elif slash:
            classes[name].append(File(name=rest, state=file.state, problem=file.problem))
    return SplitFolder(
        folder=folder,
        classes={name: files for name, files in classes.items() if files},
        without={name: others[name] for name, files in classes.items() if not files},
        beside=[file.name for file in others.get("", [])],
    )


def below(folder: str, name: str) -> str:
    """Returns the path of a name in a folder, which may be the source itself: ``""``."""
    return f"{folder}/{name}" if folder else name


def is_image(file: File) -> bool:
    """Whether a file counts as an image, by its ending."""
    return file.name.lower().endswith(image_endings())


def _candidate(kind: str, name: str) -> Candidate:
    return Candidate(kind=kind, exact=is_exact(name), text=f"folder {storage.readable(name)}")


def _flat_tests(place: str, tops: Sequence[str], splits: Mapping[str, str]) -> dict[str, str]:
    """Returns the splits for testing, besides those that are known, whose images lie in no class folders: they have no labels."""
    flat = {}
    for kind, names in splits_among(tops).items():
        certain = [name for name in names if is_exact(name) or not is_exact(splits["train"])]
        if kind not in splits and (
            chosen := only_candidate({_candidate(kind, name): [name] for name in certain}, place)
        ):
            flat[kind] = next(name for name in certain if _candidate(kind, name) == chosen)
    return flat


def _require_not_doubled(place: str, split: str, names: Sequence[str], inside: Mapping[str, list[str]]) -> None:
    """Raises UserError if the only class folder of a split may be the split itself, as in ``train/train/CLASS``."""
    if len(names) == 1 and kind_of(names[0]) and inside.get(inner := below(split, names[0])):
        raise UserError(
            f"{storage.readable(storage.join(place, split))}: its only folder is {storage.readable(names[0])}, which contains "
            f"folders and may be the split itself or a class; {EXPECTED}: move the folders in {storage.readable(inner)} one "
            "level up, or its images out of them"
        )


def _require_complete(tree: Tree, place: str, tops: Sequence[str], splits: Mapping[str, str]) -> None:
    """Raises UserError if ``train`` is the only split and stands beside folders of images: it may be a class like them."""
    images = {file.name.partition("/")[0] for file in tree.files if "/" in file.name and is_image(file)}
    others = [storage.readable(name) for name in tops if name in images and not kind_of(name)]
    if len(splits) == 1 and others:
        train = storage.readable(splits["train"])
        raise UserError(
            f"{place}: {train} may be the training split, without {listed(others)}, or a class beside them; {EXPECTED}: move "
            f"the other folders away, or the images in {train} out of the folders inside it"
        )


def _require_no_splits(tree: Tree, place: str, tops: Sequence[str], inside: Mapping[str, list[str]]) -> None:
    """Raises UserError if the source seems to have splits, although no folder is the training split."""
    kinds = {name: kind for name in tops if (kind := kind_of(name))}
    several = {"train"} < set(kinds.values())
    doubtful = [name for name in kinds if inside.get(name) and (several or is_exact(name))]
    if several and len(kinds) == len(tops):
        doubtful = list(kinds)
    if any(kinds[name] != "train" for name in doubtful):
        raise UserError(
            f"{place}: {listed(map(storage.readable, doubtful))} may be splits or classes; {EXPECTED}: rename or move these "
            "folders, or the others if these are the splits"
        )
    stems = {file.name.rpartition("/")[2].rpartition(".")[0] for file in tree.files if is_image(file)}
    named = {kind_of(stem) for stem in stems}
    if None not in named and "train" in named and len(named) > 1:
        raise UserError(
            f"{place}: the names of all images name a split ({', '.join(sorted(map(str, named)))}); move the images into "
            "PATH/train/CLASS and PATH/test/CLASS"
        )


def _require_no_splits_below(place: str, inside: Mapping[str, list[str]]) -> None:
    """Raises UserError if folders below the first level look like splits: their images would all be training images."""
    for folder, names in inside.items():
        found = splits_among(names) if folder else {}
        tests = [name for kind in TESTS for name in found.get(kind, [])]
        if "train" in found and (any(map(is_exact, tests)) or (tests and all(map(kind_of, names)))):
            raise UserError(
                f"{storage.readable(storage.join(place, folder))}: contains the folders {listed([*found['train'], *tests])}, which "
                f"look like splits; {EXPECTED}: pass this folder as --data if it is the data set, or move the splits to the top"
            )


def _with_images(tree: Tree) -> set[str]:
    """The folders that contain images, also in folders below them."""
    folders: set[str] = set()
    for file in filter(is_image, tree.files):
        folder = file.name.rpartition("/")[0]
        while folder and folder not in folders:
            folders.add(folder)
            folder = folder.rpartition("/")[0]
    return folders


def _children(tree: Tree) -> defaultdict[str, list[str]]:
    """Names of the folders directly in each folder; the tree itself is ``""``."""
    inside: defaultdict[str, list[str]] = defaultdict(list)
    for folder in tree.folders:
        above, _, name = folder.rpartition("/")
        inside[above].append(name)
    return inside
