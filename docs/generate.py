"""Writes the generated parts of the documentation: the help in cli.md and the table of settings in configuration.md.

Run ``python -m docs.generate`` in the project's folder. tests/test_docs.py fails if the pages are out of date.
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

from pipeline.cli.parser import build_parser
from pipeline.config.keys import NAMES, Key, keys
from pipeline.config.run_config import RunConfig

DOCS = Path(__file__).resolve().parent
SETTINGS, CLI = DOCS / "configuration.md", DOCS / "cli.md"
COLUMNS = "100"
"""Width of the help in cli.md."""


def cli_page() -> str:
    """cli.md: its introduction, then the help of the program and of every command."""
    parts = [f"## {command}\n\n```text\n{text}\n```\n" for command, text in helps().items()]
    return CLI.read_text().split("\n## ")[0] + "\n" + "\n".join(parts)


def settings_page() -> str:
    """configuration.md with the rows of its table of settings replaced."""
    table = re.compile(r"(\| key \| type \| default \| meaning \|\n\| --- \| --- \| --- \| --- \|\n)(?:\| `.*\n)*")
    rows = "".join(f"{row}\n" for row in settings_rows())
    return table.sub(lambda match: match[1] + rows, SETTINGS.read_text(), count=1)


def helps() -> dict[str, str]:
    """The help of the program and of every command, as wide as the environment variable COLUMNS says."""
    parser = build_parser()
    (added,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    parsers = {"python -m pipeline": parser, **{f"python -m pipeline {name}": p for name, p in added.choices.items()}}
    return {command: each.format_help().strip() for command, each in parsers.items()}


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
    """Writes both pages."""
    os.environ["COLUMNS"] = COLUMNS
    for path, text in ((CLI, cli_page()), (SETTINGS, settings_page())):
        path.write_text(text)
        print(f"wrote {path}")


if __name__ == "__main__":
    write()
