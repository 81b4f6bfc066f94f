"""Published lists of ImageNet classes, in their published order, which is the order of their labels.

The lists are in imagenet_subsets.json: WordNet id and name of every class.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline import storage
from pipeline.config.imagenet_subsets import _titles, subset
from pipeline.errors import UserError, listed

LEADING = re.compile(r"(n\d{8})(?:[ _.,-]|$)")


def leading_wnid(name: str) -> str:
    """The WordNet id that a name begins with, such as that of ``n01440764_tench``, or an empty string."""
    found = LEADING.match(name)
    return found[1] if found else ""


@dataclass(frozen=True, kw_only=True)
class ClassName:
    """A class of a source."""

    held: str
    """What the source calls it."""
    wnid: str
    """Its WordNet id, or an empty string."""
    title: str
    """What people call it; ``held`` where nothing else is known."""

    @property
    def name(self) -> str:
        """What it is called whatever the source: the WordNet id where there is one."""
        return self.wnid or self.held


def read_synsets(path: str) -> tuple[tuple[str, str], ...]:
    """WordNet id and name of every line ``wnid name`` of a file.

    Raises:
        UserError: there is no such file, or a line that does not begin with a WordNet id.
    """
    try:
        lines = storage.read_bytes(path).decode().splitlines()
    except (FileNotFoundError, IsADirectoryError, UnicodeDecodeError):
        raise UserError(
            f"data.synsets: {path} is not a text file; give one with lines such as `n01440764 tench`"
        ) from None
    found = []
    for number, line in enumerate(lines, 1):
        wnid, title = [*line.split(None, 1), "", ""][:2]
        if not wnid:
            continue
        if leading_wnid(wnid) != wnid:
            raise UserError(f"data.synsets: line {number} of {path} does not begin with a WordNet id such as n01440764")
        found.append((wnid, title.strip() or wnid))
    return tuple(found)


def described(
    held: Sequence[str], subset_name: str | None, synsets: Sequence[tuple[str, str]] | None
) -> tuple[ClassName, ...]:
    """What is known of a source's classes, in its order.

    A class has the WordNet id that its name begins with; where ``synsets`` is given, an integer is a line of it and a
    name is looked up in it. Names of a subset are looked up where it is asked for: a folder that is merely called lion
    does not become ImageNet's.
    """
    table = dict(synsets or ())
    if subset_name:
        table = {**dict(subset(subset_name)), **table}
    by_title = _by_title(table)
    found = []
    for one in held:
        wnid = leading_wnid(one)
        if not wnid and synsets and one.isdecimal() and int(one) < len(synsets):
            wnid = synsets[int(one)][0]
        if not wnid and len(meant := by_title.get(_folded(one), set())) == 1:
            wnid = next(iter(meant))
        title = table.get(wnid) or _titles().get(wnid) or (one if one != wnid else "")
        found.append(ClassName(held=one, wnid=wnid, title=title or one))
    return tuple(found)


def chosen(
    classes: Sequence[ClassName], wanted: Sequence[str] | None, subset_name: str | None, where: str
) -> tuple[int, ...]:
    """Positions in the source of the classes of a run, in label order.

    Args:
        classes: of the source.
        wanted: ``data.classes``: names of the source, WordNet ids or names of people's.
        subset_name: ``data.subset``.
        where: the source, for messages.

    Raises:
        UserError: a class is missing, or a name may mean several; the message has the choices.
    """
    if subset_name:
        places = {one.wnid: place for place, one in enumerate(classes) if one.wnid}
        listed_classes = subset(subset_name)
        missing = [f"{wnid} ({title})" if title else wnid for wnid, title in listed_classes if wnid not in places]
        if missing:
            hint = "" if places else "; where its classes have no WordNet ids, data.synsets says which are meant"
            raise UserError(
                f"data.subset: {listed(missing)} of {subset_name} not found in {where}; it has "
                f"{listed(one.held for one in classes)}{hint}"
            )
        return tuple(places[wnid] for wnid, _ in listed_classes)
    if wanted is None:
        return tuple(range(len(classes)))
    found = tuple(_place(name, classes, where) for name in wanted)
    twice = {wanted[i] for i, place in enumerate(found) if found.count(place) > 1}
    if twice:
        raise UserError(f"data.classes: {listed(sorted(twice))} are names of one class; name every class once")
    return found


def distinct(titles: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    """The titles, with the name behind those that several classes have: ImageNet has two classes called crane."""
    return tuple(f"{t} ({n})" if titles.count(t) > 1 else t for t, n in zip(titles, names, strict=True))


def _place(name: str, classes: Sequence[ClassName], where: str) -> int:
    for place, one in enumerate(classes):
        if name == one.held:
            return place
    meant = [place for place, one in enumerate(classes) if name == one.wnid or _folded(name) in _synonyms(one.title)]
    if len(meant) == 1:
        return meant[0]
    if meant:
        choices = " or ".join(f"{classes[place].name} ({classes[place].title})" for place in meant)
        raise UserError(f"data.classes: {name!r} may be {choices} in {where}; give one of these names")
    raise UserError(f"data.classes: {name} not found in {where}; it has {listed(one.held for one in classes)}")


def _by_title(table: Mapping[str, str]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for wnid, title in table.items():
        for text in _synonyms(title):
            found.setdefault(text, set()).add(wnid)
    return found


def _synonyms(title: str) -> set[str]:
    return {_folded(part) for part in [title, *title.split(",")]} - {""}


def _folded(text: str) -> str:
    return " ".join(text.casefold().replace("_", " ").split())
