"""The paths among the words of a command of the pipeline.

A job runs on a node in a folder of its own, so every path must be absolute. Which words are paths is not listed here:
``python -m docs.generate`` writes ``pipeline_options.json`` from the pipeline's own parser and settings.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Literal

from cluster.errors import ClusterError
from cluster.jobs import settings_file

ABSOLUTE = re.compile(r"/|(?!file:)[a-z0-9+.-]+://|file:///")
CONFIG_BYTES = 2**20
"""Largest configuration file that is read here. The pipeline reads it on the node in any case."""

Kind = Literal["flag", "value", "setting", "path", "config"]
"""What follows an option: nothing, any value, KEY=VALUE, a path, or the path of a file of settings."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of one command."""

    kinds: Mapping[str, Kind]
    """Kind of each option by its full name, such as ``--out``."""
    positionals_are_paths: bool


@dataclass(frozen=True, kw_only=True)
class NamedPath:
    """A path of a command."""

    option: str
    """Its option, the command for a path without an option, or the key of the setting."""
    path: str
    given: str
    """Option and path as a message shows them."""

    @property
    def is_absolute(self) -> bool:
        """Whether it means the same in every folder: an absolute path or a URL."""
        return bool(ABSOLUTE.match(self.path))


def paths_of(words: Sequence[str]) -> list[NamedPath]:
    """All paths that a command is given: by options, in full or shortened, without an option, and in settings."""
    commands, settings = _table()
    command = commands.get(words[0])
    return list(_paths(words, command, settings)) if command else []


def _paths(words: Sequence[str], command: Options, settings: frozenset[str]) -> Iterator[NamedPath]:
    rest = iter(words[1:])
    for word in rest:
        if word == "--":
            yield from (_positional(words[0], each) for each in rest if command.positionals_are_paths)
        elif not word.startswith("--"):
            if command.positionals_are_paths and not word.startswith("-"):
                yield _positional(words[0], word)
        else:
            written, equals, value = word.partition("=")
            option = _full_name(written, command.kinds)
            kind = command.kinds.get(option, "flag")
            if kind == "flag":
                continue
            yield from _of_option(option, kind, value if equals else next(rest, ""), settings)


def _of_option(option: str, kind: Kind, value: str, settings: frozenset[str]) -> Iterator[NamedPath]:
    if kind in ("path", "config"):
        yield NamedPath(option=option, path=value, given=f"{option} {value}")
    if kind == "config":
        yield from _of_file(option, value, settings)
    if kind == "setting":
        key, _, text = value.partition("=")
        path = _plain(text)
        if key in settings and path is not None:
            yield NamedPath(option=key, path=path, given=f"{option} {key}={path}")


def _of_file(option: str, path: str, settings: frozenset[str]) -> Iterator[NamedPath]:
    """The paths in a file of settings, if it can be read here; whatever else is wrong with it, the pipeline reports."""
    for key, value in _flat(_document(path)):
        if key in settings and isinstance(value, str):
            yield NamedPath(option=key, path=value, given=f"{option} {path}: {key} {value}")


def _document(path: str) -> object:
    file = Path(path)
    try:
        if file.is_file() and file.stat().st_size <= CONFIG_BYTES:
            is_yaml = path.lower().endswith((".yaml", ".yml"))
            document = settings_file.read(path, path) if is_yaml else json.loads(file.read_bytes())
            # A run's config.json has the settings under one key.
            return document.get("config", document) if isinstance(document, dict) else None
    except (OSError, ValueError, RecursionError, ClusterError):
        pass
    return None


def _flat(document: object) -> Iterator[tuple[str, object]]:
    """Keys with their section, and values, of settings that are nested or flat."""
    for key, value in document.items() if isinstance(document, dict) else ():
        if isinstance(value, dict):
            yield from ((f"{key}.{inner}", each) for inner, each in value.items())
        else:
            yield key, value


def _positional(command: str, path: str) -> NamedPath:
    return NamedPath(option=command, path=path, given=f"{command} {path}")


def _full_name(written: str, known: Mapping[str, Kind]) -> str:
    """The option that a word means; argparse accepts any beginning that only one option has."""
    matches = [name for name in known if name.startswith(written)]
    return matches[0] if written not in known and len(matches) == 1 else written


def _plain(text: str) -> str | None:
    """The text of a setting's value, which is JSON if it parses as JSON; None for null."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, str) or value is None else text


@lru_cache(maxsize=1)
def _table() -> tuple[dict[str, Options], frozenset[str]]:
    """Options by command, and the keys of the settings that hold a path."""
    document = json.loads(resources.files("cluster.jobs").joinpath("pipeline_options.json").read_text())
    commands = {
        name: Options(kinds=command["options"], positionals_are_paths=command["positionals_are_paths"])
        for name, command in document["commands"].items()
    }
    return commands, frozenset(document["settings"])
