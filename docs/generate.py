"""Writes what is generated: the help in cli.md, the table of settings in configuration.md, the table of options that
``python -m cluster submit`` needs to find paths in a command, and what ``presets`` prints about measurements.

Run ``python -m docs.generate`` in the project's folder. tests/test_docs.py fails if the pages are out of date,
tests/cluster/jobs/test_paths.py if the table is, and tests/pipeline/cli/test_beginning.py if the measurements are.
"""

import argparse
import ast
import dataclasses
import inspect
import json
import os
import re
import textwrap
from pathlib import Path
from typing import Any, get_args, get_type_hints

from cluster.cli.parser import build_parser as build_cluster_parser
from m3d.training.protocols import training_of
from pipeline.cli.parser import build_parser
from pipeline.config import presets
from pipeline.config.keys import NAMES, Key, keys
from pipeline.config.location import LOCATION
from pipeline.config.run_config import RunConfig

DOCS = Path(__file__).resolve().parent
SETTINGS, CLI = DOCS / "configuration.md", DOCS / "cli.md"
OPTIONS = DOCS.parent / "cluster" / "jobs" / "pipeline_options.json"
MEASURED = DOCS.parent / "pipeline" / "config" / "preset_results.json"
TIMES = {
    "digits_ipc1": "70 s in all",
    "cifar10_ipc1": "1.6 h to condense",
    "cifar10_ipc10": "2.6 h or more to condense",
}
"""Measured on two CPU cores in float32, by preset: README.md and performance.md."""
COLUMNS = "100"
"""Width of the help in cli.md."""
PATHS = ("PATH", "FILE", "RUN", "SET")
"""What the help calls a value that is a path."""
VALUES = ("NAME", "N", "A,B", "A/B/C", "TEXT", "TIME", "URL", "SHELL")
"""What the help calls other values."""


def cli_page() -> str:
    """cli.md: its introduction, then the help of the program and of every command."""
    parts = [f"## {command}\n\n```text\n{text}\n```\n" for command, text in helps().items()]
    return CLI.read_text().split("\n## ")[0] + "\n" + "\n".join(parts)


def settings_page() -> str:
    """configuration.md with the rows of its table of settings replaced."""
    table = re.compile(r"(\| key \| type \| default \| meaning \|\n\| --- \| --- \| --- \| --- \|\n)(?:\| `.*\n)*")
    rows = "".join(f"{row}\n" for row in settings_rows())
    return table.sub(lambda match: match[1] + rows, SETTINGS.read_text(), count=1)


def options_table() -> str:
    """The kind of every option by command, and the keys of the settings that contain a path, as JSON."""
    commands = {name: options_of(parser) for name, parser in subparsers(build_parser()).items()}
    return json.dumps({"commands": commands, "settings": locations()}, indent=1) + "\n"


def measurements() -> str:
    """The accuracies in results/ that were measured with a preset as it is, and ``TIMES``, as JSON."""
    found: dict[str, dict[str, Any]] = {name: {"time": time} for name, time in TIMES.items()}
    for path in sorted((DOCS / "results").glob("*.json")):
        cell = json.loads(path.read_text())
        config = presets.preset(cell["preset"])
        wanted = (config.encoder.name, config.evaluate.protocol, "test", training_of(config.evaluate).epochs)
        schedule = cell["schedule"]
        if (schedule["iterations"], schedule["images_per_class"], schedule.get("encoder", config.encoder.name)) != (
            config.condense.iterations,
            config.condense.images_per_class,
            config.encoder.name,
        ):
            continue
        for row in cell["rows"]:
            measured = (row["architecture"], row["protocol"], row["on"], row["epochs"])
            if row["set"] == "condensed" and measured == wanted:
                found.setdefault(cell["preset"], {})["accuracy"] = [round(row["mean"], 4), round(row["std"], 4)]
    return json.dumps(found, indent=1) + "\n"


def options_of(parser: argparse.ArgumentParser) -> dict[str, Any]:
    """The kinds of a command's options, and whether its words without an option are paths."""
    options = [action for action in parser._actions if action.option_strings]
    positionals = {kind_of(action) for action in parser._actions if not action.option_strings}
    kinds = {name: kind_of(each) for each in options for name in each.option_strings if name.startswith("--")}
    return {"options": kinds, "positionals_are_paths": positionals == {"path"}}


def kind_of(action: argparse.Action) -> str:
    """What follows an option: a kind of ``cluster.jobs.paths``. Raises ValueError if the help does not say."""
    if action.nargs == 0:
        return "flag"
    if action.dest == "settings":
        return "setting"
    if action.metavar in PATHS:
        return "config" if action.dest == "config" else "path"
    if action.metavar in VALUES:
        return "value"
    raise ValueError(f"{action.dest}: say in PATHS or VALUES of docs/generate.py whether {action.metavar} is a path")


def locations() -> list[str]:
    """Keys of the settings that contain a path."""
    found = []
    for section, kind in get_type_hints(RunConfig).items():
        hints = get_type_hints(kind, include_extras=True) if dataclasses.is_dataclass(kind) else {}
        found += [f"{section}.{field}" for field, hint in hints.items() if is_location(hint)]
    return found


def is_location(hint: Any) -> bool:
    """Whether a type, or a part of it, has the mark of a path."""
    return LOCATION in getattr(hint, "__metadata__", ()) or any(map(is_location, get_args(hint)))


def helps() -> dict[str, str]:
    """The help of ``m3d`` and of every command, as wide as the environment variable COLUMNS says."""
    parser, cluster = build_parser("m3d"), build_cluster_parser("m3d cluster")
    found: dict[str, argparse.ArgumentParser] = {"m3d": parser}
    found |= {f"m3d {name}": each for name, each in subparsers(parser).items()}
    found |= {"m3d cluster": cluster}
    found |= {f"m3d cluster {name}": each for name, each in subparsers(cluster).items()}
    return {command: each.format_help().strip() for command, each in found.items()}


def subparsers(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The parsers of all commands by name."""
    (added,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return dict(added.choices)


def settings_rows() -> list[str]:
    """The rows of the table of settings: key, type, default and meaning."""
    texts = meanings()
    return [
        f"| `{key.name}` | {type_name(key)} | `{json.dumps(key.default)}` | {texts[key.name]} |"
        for key in keys().values()
    ]


def meanings() -> dict[str, str]:
    """What every setting means: the docstrings of the fields."""
    texts = field_texts(RunConfig)
    for section, kind in get_type_hints(RunConfig).items():
        if dataclasses.is_dataclass(kind):
            assert isinstance(kind, type)
            texts |= {f"{section}.{field}": text for field, text in field_texts(kind).items()}
    return texts


def field_texts(kind: type) -> dict[str, str]:
    """The docstring below each field of a dataclass and of its bases."""
    texts = {}
    for owner in reversed([base for base in kind.__mro__ if dataclasses.is_dataclass(base)]):
        (body,) = ast.parse(textwrap.dedent(inspect.getsource(owner))).body
        assert isinstance(body, ast.ClassDef)
        for field, below in zip(body.body, body.body[1:], strict=False):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(below, ast.Expr)
                and isinstance(below.value, ast.Constant)
            ):
                assert isinstance(field.target, ast.Name)
                texts[field.target.id] = " ".join(str(below.value.value).split())
    return texts


def type_name(key: Key) -> str:
    """The type of a setting in words; choices are listed."""
    (kind,) = key.kinds
    or_null = " or null" if type(None) in get_args(key.kind) else ""
    if key.choices:
        return " / ".join(key.choices)
    words: dict[Any, str] = {NAMES: "list of names", str: "text", int: "integer", float: "number", bool: "true / false"}
    return words[kind] + or_null


def write() -> None:
    """Writes both pages and the table."""
    os.environ["COLUMNS"] = COLUMNS
    for path, text in (
        (CLI, cli_page()),
        (SETTINGS, settings_page()),
        (OPTIONS, options_table()),
        (MEASURED, measurements()),
    ):
        path.write_text(text)
        print(f"wrote {path}")


if __name__ == "__main__":
    write()
