"""Recognises splits by whole words in the names of files and folders, such as those of ``imagenet1k-train-0000.tar``.

A word counts if no letter stands beside it, or where the case changes: ``split=train`` and ``ImagesTest`` name a split,
``trainers`` and ``contest`` do not.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from pipeline.errors import UserError, listed

KINDS = {
    **dict.fromkeys(("train", "training", "trainset", "trainval"), "train"),
    **dict.fromkeys(("test", "testing", "testset"), "test"),
    **dict.fromkeys(("val", "valid", "validation", "valset", "dev", "eval", "evaluation"), "val"),
}
"""Words that name a split, and the split: train, test or val."""
TESTS = ("test", "val")
"""The splits that can be used for testing, by preference."""
LABEL_NAMES = ("label", "labels", "fine_label", "class", "target", "cls", "category")
"""Names of label columns and of folders such as ``label=train``, without regard to case; the first one counts."""
_BORDER = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_WORD = re.compile(r"[^\W\d_]+")
_SEPARATOR = re.compile(r"[\W_]+")
_NUMBER = re.compile(r"of|(part|shard)?\d*|\d+of\d+|c\d{3}|(?=.*\d)[0-9a-f]{8,}", re.IGNORECASE)
"""What numbers the files of a split, with a checksum as the hub appends it."""
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True, order=True)
class Candidate:
    """Files that may be a split: those of a folder, or those with names that differ in their numbers only."""

    kind: str
    """train, test or val."""
    exact: bool
    """Whether the name says nothing but the split: ``train/`` or ``train-00000-of-00002``, not ``train_masks``."""
    text: str
    """The candidate, for people: ``folder split=train``, or ``files train-*``."""


def kind_of(name: str, label_key: str | None = None) -> str | None:
    """Returns the split that a name means: train, test or val. None if it has no such word, or words of several splits.

    Args:
        name: name of a file or folder.
        label_key: key of folders that name a class, besides the usual ones.
    """
    kinds = {KINDS[word] for word in _words(_value(name, label_key)) if word in KINDS}
    return kinds.pop() if len(kinds) == 1 else None


def is_exact(name: str, label_key: str | None = None) -> bool:
    """Whether the name of a folder says nothing but the split: ``train``, ``Validation`` or ``split=test``."""
    return _value(name, label_key).lower() in KINDS


def candidate_of(path: str, label_key: str | None = None) -> Candidate | None:
    """Returns what a file belongs to by the words in its path. None if no part of it names a split.

    Args:
        path: path of the file in its source.
        label_key: key of folders that name a class, besides the usual ones.

    Raises:
        UserError: parts of the path name different splits.
    """
    *folders, last = path.split("/")
    stem = last.rpartition(".")[0]
    found = [
        Candidate(
            kind=kind, exact=is_exact(folder, label_key), text=f"folder {'/'.join([*_fixed(folders[:i]), folder])}"
        )
        for i, folder in enumerate(folders)
        if (kind := kind_of(folder, label_key))
    ]
    if kind := kind_of(stem):
        pattern, exact = _pattern(stem)
        found.append(Candidate(kind=kind, exact=exact, text=f"files {'/'.join([*_fixed(folders), pattern])}"))
    chosen = [candidate for candidate in found if candidate.exact] or found
    if len({candidate.kind for candidate in chosen}) > 1:
        kinds = " and ".join(sorted({candidate.kind for candidate in chosen}))
        raise UserError(f"{path}: its path names the splits {kinds}; move it into a folder of one split")
    return chosen[0] if chosen else None


def only_candidate(files: Mapping[Candidate, Sequence[str]], place: str) -> Candidate | None:
    """Returns the candidate that is the split, None if there is none: the exact one if there are several.

    Args:
        files: paths of each candidate's files; all candidates are of one kind.
        place: the source, for messages.

    Raises:
        UserError: several candidates may be the split.
    """
    ordered = sorted(files)
    chosen = [candidate for candidate in ordered if candidate.exact] or ordered
    if len(chosen) > 1:
        kind = chosen[0].kind
        names = listed(f"{candidate.text} ({files[candidate][0]})" for candidate in chosen)
        raise UserError(
            f"{place}: {names} may each be the split {kind}; keep one of them there, or put all that belongs to the split "
            f"into one folder called {kind}"
        )
    return chosen[0] if chosen else None


def splits_among(folders: Sequence[str]) -> dict[str, list[str]]:
    """Returns which of the folders beside each other are splits, by kind.

    They are if one is called exactly ``train`` or alike, or if each of them names a split.
    """
    kinds = {name: kind for name in folders if (kind := kind_of(name))}
    trains = any(kind == "train" and is_exact(name) for name, kind in kinds.items())
    if not trains and len(kinds) < len(folders):
        return {}
    return {kind: [name for name in folders if kinds.get(name) == kind] for kind in dict.fromkeys(kinds.values())}


def _value(name: str, label_key: str | None = None) -> str:
    """What a name says: of ``split=train`` the value, of ``label=train`` nothing."""
    key, equals, value = name.partition("=")
    if not equals:
        return name
    key = unquote(key)
    return "" if key == label_key or key.lower() in LABEL_NAMES else value


def _words(text: str) -> list[str]:
    return [word.lower() for part in _WORD.findall(text) for word in _BORDER.split(part)]


def _fixed(folders: Sequence[str]) -> list[str]:
    """The folders without those that stand for a value or a number, which files of one split do not share."""
    return [folder for folder in folders if "=" not in folder and _pattern(folder)[0] != "*"]


def _pattern(name: str) -> tuple[str, bool]:
    """A name with a star instead of what numbers it, and whether only the word of the split remains."""
    pattern, words = "", []
    for token in re.split(r"([\W_]+)", _UUID.sub("0", name)):
        bare = re.sub(r"\d+$", "", token).lower()
        if token and _NUMBER.fullmatch(token):
            pattern += "*"
        elif bare in KINDS:
            pattern += bare + "*" * (bare != token.lower())
        else:
            pattern += token
        if token and not _SEPARATOR.fullmatch(token) and not _NUMBER.fullmatch(token):
            words.append(bare)
    return re.sub(r"\*(?:[\W_]*\*)+", "*", pattern), len(words) == 1 and words[0] in KINDS
