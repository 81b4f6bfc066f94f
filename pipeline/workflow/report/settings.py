"""The settings, versions and commands on the page."""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.config.parsing import to_dict
from pipeline.config.run_config import Data, RunConfig
from pipeline.formats.run_folder import RunFolder
from pipeline.storage.settings import PATHS, RECIPIENTS

FOLDERS = re.compile(r"(?<![\w.…/])(?:[a-z][a-z0-9+.-]*://|~?/)(?:[^\s/,;:'\"]+/)+")
"""The folders of a path in a text."""


@dataclass(frozen=True, kw_only=True)
class Section:
    """The settings of a section that differ from the defaults, and the others."""

    name: str
    changed: Sequence[tuple[str, str]]
    defaults: Sequence[tuple[str, str]]


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command and what it does."""

    text: str
    line: str


def sections(config: RunConfig) -> list[Section]:
    """Returns all settings by section. Of paths only the last name is shown: a page is shared, where things are is not."""
    values, defaults = to_dict(config), to_dict(RunConfig())
    found = []
    for name, content in values.items():
        entries = content if isinstance(content, dict) else {"": content}
        before: Mapping[str, Any] = defaults[name] if isinstance(content, dict) else {"": defaults[name]}
        shown = [(f"{name}.{key}".rstrip("."), value, value != before.get(key)) for key, value in entries.items()]
        found.append(
            Section(
                name=name,
                changed=[(key, _text(key, value)) for key, value, changed in shown if changed],
                defaults=[(key, _text(key, value)) for key, value, changed in shown if not changed],
            )
        )
    return found


def name_of(data: Data) -> str:
    """Returns what to call the data: a published name, or the last name of the path."""
    if data.subset is not None:
        return data.subset
    if data.source == "torchvision" or data.path is None:
        return data.name or data.source
    return _last_name(data.path)


def commands(folder: RunFolder) -> list[Command]:
    """Returns the commands that use the run's folder, which they call by its name."""
    out = shlex.quote(_last_name(folder.path))
    run = "python -m pipeline"
    return [
        Command(
            text="Condense again with the same settings", line=f"{run} run --config {out}/config.json --out {out}-again"
        ),
        Command(text="Evaluate with more networks", line=f"{run} evaluate {out} --seeds 5"),
        Command(text="Export for Hugging Face datasets", line=f"{run} export {out}/condensed --to hub --out {out}-hub"),
        Command(text="Check all files", line=f"{run} verify {out}"),
        Command(text="Write this page again", line=f"{run} report {out}"),
    ]


def without_folders(text: str) -> str:
    """Returns a message with only the last names of its paths, for a page that is shared."""
    return FOLDERS.sub("…/", text)


def _last_name(path: str) -> str:
    return path.rstrip("/").rsplit("/", 1)[-1]


def _text(key: str, value: object) -> str:
    if isinstance(value, str) and (key in RECIPIENTS or key in {f"data.{name}" for name in PATHS}):
        return f"…/{_last_name(value)}"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "default" if value is None else str(value)
