"""What sources of many files share: their root, which files count, to which split a file belongs, and the order of classes."""

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pipeline import storage
from pipeline.config.run_config import Data
from pipeline.data.sources.findings import EXAMPLES, LeftOut
from pipeline.data.sources.layout.split_words import TESTS, Candidate, candidate_of, only_candidate
from pipeline.errors import UserError, listed
from pipeline.storage.file_tree import Tree, list_tree
from pipeline.storage.files import File

Label = TypeVar("Label", str, int, str | int)
PRIVATE = (
    *("@eadir", "@tmp", "@recycle", "@recently-snapshot", "#recycle", "#snapshot", "__macosx", "__pycache__"),
    *("$recycle.bin", "system volume information", "lost+found", "thumbs.db", "desktop.ini"),
)
"""Files and folders that systems leave in folders of data, in lower case."""
WHOLE_NUMBER = re.compile(r"-?\d{1,300}", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class SplitFiles:
    """The files of a source that count, by split."""

    train: list[File]
    tests: dict[str, list[File]]
    """Files of the splits that can be used for testing, by ``test`` and ``val``, in the order of preference."""
    recognised: dict[str, str]
    """How each of these splits was recognised."""
    left_out: list[LeftOut]


def is_private(name: str) -> bool:
    """Whether a file or folder is hidden, or left there by a system rather than by the user."""
    return name.startswith(".") or name.lower() in PRIVATE


def is_private_table(name: str) -> bool:
    """Like ``is_private``, for tables: names that begin with ``_`` are those of jobs, as for pyarrow, Spark and Hive."""
    return is_private(name) or (name.startswith("_") and "=" not in name)


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


def split_files(
    root: str, endings: tuple[str, ...], *, tables: bool = False, label_key: str | None = None
) -> SplitFiles:
    """Returns the files of a source whose files contain many images, by split.

    A split is recognised by a word anywhere in a file's path. Files without one are training files, if no other are.

    Args:
        root: folder of the source.
        endings: those of its files, in lower case.
        tables: whether names that begin with ``_`` are private.
        label_key: key of folders that name a class, besides the usual ones.

    Raises:
        UserError: a file may belong to two splits, several candidates may be one split, or there are no training files.
    """
    tree = list_tree(root, is_private_table if tables else is_private)
    files = [file for file in tree.files if file.name.lower().endswith(endings)]
    groups: defaultdict[str, defaultdict[Candidate, list[File]]] = defaultdict(lambda: defaultdict(list))
    unnamed = []
    for file in files:
        if candidate := candidate_of(file.name, label_key):
            groups[candidate.kind][candidate].append(file)
        else:
            unnamed.append(file)
    found: dict[str, list[File]] = {}
    recognised: dict[str, str] = {}
    left_out = [
        *left_out_of(tree),
        *other_endings(file for file in tree.files if not file.name.lower().endswith(endings)),
    ]
    for kind in ("train", *TESTS):
        candidates = groups[kind]
        chosen = only_candidate({key: [file.name for file in own] for key, own in candidates.items()}, root)
        if chosen:
            found[kind], recognised[kind] = candidates[chosen], f"{chosen.text} ({_counted(candidates[chosen])})"
            others = [file.name for key, own in candidates.items() if key != chosen for file in own]
            left_out += left_out_for(f"not of {chosen.text}, which is the split {kind}", others)
    if "train" in found:
        left_out += left_out_for("no split in the name, beside files of train", [file.name for file in unnamed])
    elif unnamed or len(found) != 1:
        if files and not unnamed:
            raise UserError(
                f"{root}: holds the splits {' and '.join(found)}, but no training files; put them into a folder called train"
            )
        found["train"] = unnamed
        recognised["train"] = f"files without the name of a split ({_counted(unnamed)})"
    else:
        ((kind, only),) = found.items()
        found, recognised = {"train": only}, {"train": f"{recognised[kind]}, as there are no other files"}
    for file in [file for own in found.values() for file in own]:
        if file.problem:
            raise UserError(f"{storage.join(root, file.name)}: cannot be read, {file.problem}; repair or remove it")
    tests = {kind: found[kind] for kind in TESTS if kind in found}
    return SplitFiles(train=found["train"], tests=tests, recognised=recognised, left_out=left_out)


def labelled_test(
    tests: Mapping[str, Callable[[], Collection[str]]], classes: Collection[str], place: str, hint: str = ""
) -> str | None:
    """Returns the first split for testing that holds images of the training classes; None if there are no such splits.

    Args:
        tests: functions that return the classes of which a split holds images, by the split.
        classes: classes of the training images.
        place: the source, for messages.
        hint: what else may help, for messages.

    Raises:
        UserError: there are such splits, but none holds an image of these classes.
    """
    strangers = {}
    for split, held in tests.items():
        names = held()
        if not set(names).isdisjoint(classes):
            return split
        strangers[split] = f"{split} has " + (
            f"images of the classes {listed(names, 5)}" if names else "no labelled images"
        )
    if not strangers:
        return None
    raise UserError(
        f"{place}: no split for testing holds labelled images of the training classes ({listed(classes, 5)}): "
        f"{', '.join(strangers.values())}; label them as the training images are{hint}, or take these splits out of the "
        "source and test images are cut from train"
    )


def described_test(chosen: str | None, files: SplitFiles) -> tuple[dict[str, str], list[LeftOut]]:
    """Returns how train and test were recognised, and which split for testing is left out; ``chosen`` is the one in use."""
    splits = {"train": files.recognised["train"]}
    if chosen is None:
        return splits, []
    before = [split for split in files.tests if TESTS.index(split) < TESTS.index(chosen)]
    why = f", since {' and '.join(before)} holds no labelled images of the classes" if before else ""
    unused = [
        entry
        for split, own in files.tests.items()
        if split != chosen
        for entry in left_out_for(f"split {split}, as {chosen} is used for testing", [file.name for file in own])
    ]
    return {**splits, "test": f"{files.recognised[chosen]}{why}"}, unused


def in_label_order(names: Iterable[Label]) -> list[Label]:
    """Returns the names of classes in the order of their labels: numbers as numbers if all are whole numbers, else as text."""
    names = list(names)
    if all(WHOLE_NUMBER.fullmatch(str(name)) for name in names):
        return sorted(names, key=lambda name: (int(name), str(name)))
    return sorted(names)


def left_out_for(reason: str, names: Sequence[str]) -> list[LeftOut]:
    """Returns the entry for what is left out for a reason; nothing if there is nothing."""
    examples = tuple(storage.readable(name) for name in names[:EXAMPLES])
    return [LeftOut(reason=reason, count=len(names), examples=examples)] if names else []


def left_out_of(tree: Tree) -> list[LeftOut]:
    """Returns what listing a folder left out."""
    return [
        *left_out_for("hidden or of the system", tree.private),
        *left_out_for("link to a folder that is read anyway", tree.repeated),
    ]


def other_endings(files: Iterable[File]) -> list[LeftOut]:
    """Returns the files of endings that are not read, by ending."""
    by_ending: defaultdict[str, list[str]] = defaultdict(list)
    for file in files:
        by_ending[ending_of(file.name)].append(file.name)
    return [entry for ending, names in sorted(by_ending.items()) for entry in left_out_for(ending, names)]


def ending_of(name: str) -> str:
    """Returns ``ending .heic`` of a file, or ``no ending``."""
    suffix = Path(name).suffix.lower()
    return f"ending {storage.readable(suffix)}" if suffix else "no ending"


def _counted(files: Sequence[File]) -> str:
    return f"{len(files)} files" if len(files) != 1 else "1 file"
