"""Classes of a source: what they are called, and which of them a run uses.

Published lists of ImageNet classes are in pipeline/config/imagenet_subsets.json, in their published order, which is the
order of their labels.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from pipeline import storage
from pipeline.config.imagenet_subsets import subset, subset_titles
from pipeline.errors import UserError, listed, repeated
from pipeline.storage.local.regular_files import LIST_BYTES

LEADING = re.compile(r"(n\d{8})(?:[ _.,-]|$)")
NUMBER = re.compile(r"-?\d{1,18}", re.ASCII)


def leading_wnid(name: str) -> str:
    """Returns the WordNet id that a name begins with, such as that of ``n01440764_tench``, or an empty string."""
    match = LEADING.match(name)
    return match[1] if match else ""


@dataclass(frozen=True, kw_only=True)
class ClassName:
    """A class of a source."""

    source_name: str
    """Name in the source."""
    wnid: str
    """WordNet id, or an empty string."""
    title: str
    """Name that people use. Defaults to ``source_name``."""

    @property
    def name(self) -> str:
        """Name that does not depend on the source: the WordNet id if there is one."""
        return self.wnid or self.source_name


@dataclass(frozen=True, kw_only=True)
class Synsets:
    """The file of ``data.synsets``: WordNet id and name of every class, by the number that integer labels have in it."""

    path: str
    entries: Mapping[int, tuple[str, str]]
    are_numbered: bool = False
    """Whether the file gives the numbers, rather than the order of its lines."""


def read_synsets(path: str) -> Synsets:
    """Returns WordNet id and name of every line of a file.

    Lines are ``wnid name``, counted from 0. If the second word of every line is a number, as in ``map_clsloc.txt``, it is
    the number of the class.

    Raises:
        UserError: there is no such file, it is too large, a line does not begin with a WordNet id, or two lines have one number.
    """
    try:
        lines = storage.read_bytes(path, LIST_BYTES).decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError):
        raise UserError(
            f"data.synsets: {path} is not a text file; give one with lines such as `n01440764 tench`"
        ) from None
    synsets = []
    for number, line in enumerate(lines, 1):
        wnid, title = [*line.split(None, 1), "", ""][:2]
        if not wnid:
            continue
        if leading_wnid(wnid) != wnid:
            raise UserError(f"data.synsets: line {number} of {path} does not begin with a WordNet id such as n01440764")
        synsets.append((wnid, title.strip()))
    numbered = [(wnid, *[*title.split(None, 1), "", ""][:2]) for wnid, title in synsets]
    if synsets and all(NUMBER.fullmatch(number) for _, number, _ in numbered):
        return _numbered(path, [(int(number), wnid, title.strip()) for wnid, number, title in numbered])
    return Synsets(path=path, entries=dict(enumerate((wnid, title or wnid) for wnid, title in synsets)))


def described(source_names: Sequence[str], subset_name: str | None, synsets: Synsets | None) -> tuple[ClassName, ...]:
    """Returns the classes of a source, in its order, with their WordNet ids and titles if they are known.

    A class has the WordNet id that its name begins with. With ``synsets``, an integer is one of their numbers and other
    names are looked up in them. Names of a published list are looked up only if ``subset_name`` asks for the list: a
    folder that happens to be called lion does not become ImageNet's class.

    Raises:
        UserError: an integer is none of the numbers of ``synsets``, or may be counted from 0 or from 1.
    """
    numbers = {name: int(name) for name in source_names if NUMBER.fullmatch(name)} if synsets else {}
    if synsets and numbers:
        _require_numbers(sorted(numbers.values()), synsets)
    table = dict(synsets.entries.values()) if synsets else {}
    if subset_name:
        table = {**dict(subset(subset_name)), **table}
    by_title = _by_title(table)
    classes = []
    for name in source_names:
        wnid = leading_wnid(name)
        if synsets and name in numbers:
            wnid = synsets.entries[numbers[name]][0]
        if not wnid and len(candidates := by_title.get(_folded(name), set())) == 1:
            wnid = next(iter(candidates))
        title = table.get(wnid) or subset_titles().get(wnid) or (name if name != wnid else "")
        classes.append(ClassName(source_name=name, wnid=wnid, title=title or name))
    return tuple(classes)


def chosen(
    classes: Sequence[ClassName], wanted: Sequence[str] | None, subset_name: str | None, where: str
) -> tuple[int, ...]:
    """Returns the positions in the source of the classes of a run, in label order.

    Args:
        classes: classes of the source.
        wanted: ``data.classes``: names in the source, WordNet ids or titles. None means all classes.
        subset_name: ``data.subset``.
        where: the source, for messages.

    Raises:
        UserError: a class is missing, or a name may mean several classes; the message lists the choices.
    """
    if subset_name:
        return _positions_of_subset(classes, subset_name, where)
    if wanted is None:
        return tuple(range(len(classes)))
    table = _LookUp.of(classes)
    positions = tuple(_position(name, classes, table, where) for name in wanted)
    uses = Counter(positions)
    twice = {name for name, position in zip(wanted, positions, strict=True) if uses[position] > 1}
    if twice:
        raise UserError(f"data.classes: {listed(sorted(twice))} are names of one class; name every class once")
    return positions


def distinct(titles: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    """Returns the titles, each followed by the name if several classes share it: ImageNet has two classes called crane."""
    shared = set(repeated(titles))
    return tuple(f"{t} ({n})" if t in shared else t for t, n in zip(titles, names, strict=True))


def _numbered(path: str, lines: Sequence[tuple[int, str, str]]) -> Synsets:
    entries: dict[int, tuple[str, str]] = {}
    for number, wnid, title in lines:
        if number in entries:
            raise UserError(f"data.synsets: {path} has the number {number} twice, for {entries[number][0]} and {wnid}")
        entries[number] = (wnid, title or wnid)
    return Synsets(path=path, entries=entries, are_numbered=True)


def _require_numbers(labels: Sequence[int], synsets: Synsets) -> None:
    """Raises UserError unless sorted labels are numbers of the synsets, and counted from 0 if the file has no numbers."""
    file, entries = synsets.path.rsplit("/", 1)[-1], synsets.entries
    advice = "give the numbers in the file, in lines such as `n01440764 1 tench`"
    strays = [label for label in labels if label not in entries]
    if strays:
        what = "number" if synsets.are_numbered else "line"
        span = f" ({min(entries)} to {max(entries)})" if entries else ""
        from_one = not synsets.are_numbered and all(label - 1 in entries for label in labels)
        hint = f"; labels seem to begin at 1: {advice}" if from_one else ""
        named = f"label {strays[0]} is" if len(strays) == 1 else f"labels {listed(map(str, strays))} are"
        raise UserError(f"data.synsets: {named} no {what} of {file}{span}{hint}")
    if not synsets.are_numbered and len(labels) > 1 and list(labels) == list(range(1, len(labels) + 1)):
        readings = " or ".join(f"{entries[number][0]} {entries[number][1]}" for number in (1, 0))
        raise UserError(
            f"data.synsets: the labels 1 to {len(labels)} may be lines of {file} counted from 0 or from 1: label 1 is "
            f"{readings}; {advice}"
        )


def _positions_of_subset(classes: Sequence[ClassName], subset_name: str, where: str) -> tuple[int, ...]:
    positions = {entry.wnid: position for position, entry in enumerate(classes) if entry.wnid}
    published = subset(subset_name)
    missing = [f"{wnid} ({title})" if title else wnid for wnid, title in published if wnid not in positions]
    if missing:
        hint = "" if positions else "; its classes have no WordNet ids: name a file of them with data.synsets"
        raise UserError(
            f"data.subset: {listed(missing)} of {subset_name} not found in {where}; it has "
            f"{listed(entry.source_name for entry in classes)}{hint}"
        )
    return tuple(positions[wnid] for wnid, _ in published)


@dataclass(frozen=True, kw_only=True)
class _LookUp:
    """Positions of the classes by everything that ``data.classes`` may call them, so that no name is compared with all."""

    by_source_name: Mapping[str, int]
    by_wnid: Mapping[str, Sequence[int]]
    by_title: Mapping[str, Sequence[int]]
    """By every synonym of the title, folded."""

    @classmethod
    def of(cls, classes: Sequence[ClassName]) -> Self:
        """The table of the classes of a source."""
        by_wnid: dict[str, list[int]] = {}
        by_title: dict[str, list[int]] = {}
        for position, entry in enumerate(classes):
            by_wnid.setdefault(entry.wnid, []).append(position)
            for text in _synonyms(entry.title):
                by_title.setdefault(text, []).append(position)
        by_source_name = {entry.source_name: position for position, entry in reversed([*enumerate(classes)])}
        return cls(by_source_name=by_source_name, by_wnid=by_wnid, by_title=by_title)


def _position(name: str, classes: Sequence[ClassName], table: _LookUp, where: str) -> int:
    if name in table.by_source_name:
        return table.by_source_name[name]
    candidates = sorted({*table.by_wnid.get(name, ()), *table.by_title.get(_folded(name), ())})
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        choices = " or ".join(f"{classes[position].name} ({classes[position].title})" for position in candidates)
        raise UserError(f"data.classes: {name!r} may be {choices} in {where}; give one of these names")
    raise UserError(
        f"data.classes: {name} not found in {where}; it has {listed(entry.source_name for entry in classes)}"
    )


def _by_title(table: Mapping[str, str]) -> dict[str, set[str]]:
    wnids: dict[str, set[str]] = {}
    for wnid, title in table.items():
        for text in _synonyms(title):
            wnids.setdefault(text, set()).add(wnid)
    return wnids


def _synonyms(title: str) -> set[str]:
    return {_folded(part) for part in [title, *title.split(",")]} - {""}


def _folded(text: str) -> str:
    return " ".join(text.casefold().replace("_", " ").split())
