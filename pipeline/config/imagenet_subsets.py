"""The named subsets of ImageNet: their classes in label order, as published."""

import json
import re
from collections.abc import Iterable
from functools import lru_cache
from importlib import resources

from pipeline.errors import UserError, nearest, shown


def names() -> list[str]:
    """Names of the subsets."""
    return list(_lists())


def subset(name: str) -> tuple[tuple[str, str], ...]:
    """WordNet id and name of each class of a subset, in label order.

    Raises:
        UserError: there is no such subset; the message lists similar names.
    """
    plain = _plain(name)
    for known, classes in _lists().items():
        if _plain(known) == plain:
            return classes
    choices = [known for known in _lists() if plain and plain in _plain(known)]
    if choices:
        raise UserError(f"data.subset: given {shown(name)}, which may be {' or '.join(choices)}; choose one of them")
    raise UserError(f"data.subset: given {shown(name)}, allowed: {', '.join(_lists())}{nearest(name, _lists())}")


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.casefold())


@lru_cache(maxsize=1)
def _lists() -> dict[str, tuple[tuple[str, str], ...]]:
    text = resources.files("pipeline.config").joinpath("imagenet_subsets.json").read_text(encoding="utf-8")
    subsets = json.loads(text)
    return {name: tuple((wnid, title) for wnid, title in entry["classes"]) for name, entry in subsets.items()}


@lru_cache(maxsize=1)
def subset_titles() -> dict[str, str]:
    """Title of every class by its WordNet id, from the first list that contains it."""
    titles: dict[str, str] = {}
    pairs: Iterable[tuple[str, str]] = (pair for classes in _lists().values() for pair in classes)
    for wnid, title in pairs:
        if title:
            titles.setdefault(wnid, title)
    return titles
