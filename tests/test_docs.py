"""README.md and docs/ say what the code does: blocks run, commands parse, tables and help are those of the code.

``python -m tests.test_docs`` writes what is made from the code anew: the help in docs/cli.md and the table of
settings in docs/configuration.md.
"""

import argparse
import ast
import dataclasses
import importlib
import inspect
import json
import os
import re
import shlex
import textwrap
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from pipeline.cli import commands
from pipeline.cli.parser import _parser
from pipeline.config import presets
from pipeline.config.parsing import known_keys, to_dict, with_settings
from pipeline.config.run_config import RunConfig
from tests.pipeline.evaluate.test_stage import condensed_run
from tests.pipeline.support.runs import small_config

ROOT = Path(__file__).resolve().parent.parent
README, SETTINGS, CLI = ROOT / "README.md", ROOT / "docs" / "configuration.md", ROOT / "docs" / "cli.md"
PACKAGES = ("m3d", "pipeline", "cluster")
PAGES = [README, ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
COLUMNS = "100"
"""Width of the help in docs/cli.md."""
SHORTER = {"iterations=60": "iterations=2", "epochs=100": "epochs=2"}
"""What the tests change in README's Python, for time."""
UNSAID = {
    "seed": "Of everything that is drawn, but for the splits and the trained networks.",
    "data.source": "Kind of the source; see README, Your own data.",
    "data.on_bad_image": "fail: an image that cannot be decoded ends the run; skip: it is left out and listed.",
    "augment.brightness": "Range of what is added to the (normalised) pixels: -1/2 to 1/2 of it.",
    "augment.saturation": "The distance from the grey value is multiplied by 0 to this.",
    "augment.contrast": "The distance from the image's mean is multiplied by this to this plus 1.",
    "augment.scale_ratio": "Each side is scaled by 1 / ratio to ratio.",
    "augment.rotate_degrees": "Largest rotation, either way.",
    "augment.flip_probability": "Of a horizontal flip, where `flip` is among the operations.",
    "condense.iterations": "Sweeps over all classes.",
    "condense.momentum": "Of the pixels.",
    "condense.precision": "Of the encoder; auto: bfloat16 where the hardware has units for it, else float32.",
    "evaluate.seeds": "Networks per set and architecture, with seeds 0, 1, ...",
    "evaluate.architectures": "Networks that are trained, by name.",
    "pretrain.epochs": "Of every network; the schedule is spread over them.",
    "pretrain.learning_rate": "The highest one of the schedule.",
    "pretrain.momentum": "Of SGD.",
    "pretrain.weight_decay": "Of SGD, on all weights.",
    "resources.cpus_per_actor": "CPUs of an actor; chosen from the nodes when not given.",
    "resources.gpus_per_actor": "GPUs of an actor: a whole number or 1/k; 1 where there are GPUs when not given.",
}
"""Meanings of the settings whose field says nothing beyond its name."""


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)


def inline_code(page: Path) -> list[str]:
    """What stands between single backticks, outside of fenced blocks."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE))


def commands_of(page: Path) -> Iterator[list[str]]:
    """Arguments of every ``python -m pipeline`` command, in blocks and in running text."""
    text = "\n".join(block.replace("\\\n", " ") for block in blocks(page, "[a-z]*"))
    lines = [*text.splitlines(), *inline_code(page)]
    for line in lines:
        found = re.match(r"\s*(?:\$ )?(?:\w+=\S+ )*\S*python -m pipeline (.+)", line)
        if found:
            yield shlex.split(found[1], comments=True)


def section(page: Path, title: str) -> str:
    """The text below a heading of the second level."""
    return page.read_text().split(f"\n## {title}\n")[1].split("\n## ")[0]


# What is made from the code


def helps() -> dict[str, str]:
    """The help of the program and of every command, as wide as COLUMNS says."""
    parser = _parser()
    (held,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    parsers = {"python -m pipeline": parser, **{f"python -m pipeline {name}": p for name, p in held.choices.items()}}
    return {command: made.format_help().strip() for command, made in parsers.items()}


def field_texts(kind: type) -> dict[str, str]:
    """The string below each field of a dataclass."""
    (body,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(body, ast.ClassDef)
    found = {}
    for before, after in zip(body.body, body.body[1:], strict=False):
        if isinstance(before, ast.AnnAssign) and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            assert isinstance(before.target, ast.Name)
            found[before.target.id] = " ".join(str(after.value.value).split())
    return found


def meanings() -> dict[str, str]:
    """What every setting means: its field's text, else UNSAID's."""
    found: dict[str, str] = {}
    for name, kind in get_type_hints(RunConfig).items():
        if dataclasses.is_dataclass(kind):
            assert isinstance(kind, type)
            found.update({f"{name}.{key}": text for key, text in field_texts(kind).items()})
    return {**UNSAID, **found}


def type_name(kind: Any) -> str:
    """A type as a person writes values of it; choices of words are listed."""
    parts = get_args(kind)
    if type(None) in parts:
        return f"{type_name(next(part for part in parts if part is not type(None)))} or null"
    if kind == tuple[str, ...]:
        return "list of names"
    if parts:
        return " / ".join(map(str, parts))
    return {str: "text", int: "integer", float: "number", bool: "true / false"}[kind]


def types() -> dict[str, str]:
    """The type of every setting."""
    found: dict[str, str] = {}
    for name, kind in get_type_hints(RunConfig).items():
        if dataclasses.is_dataclass(kind):
            assert isinstance(kind, type)
            found.update({f"{name}.{key}": type_name(inner) for key, inner in get_type_hints(kind).items()})
        else:
            found[name] = type_name(kind)
    return found


def defaults() -> dict[str, str]:
    """The default of every setting, as JSON."""
    found: dict[str, str] = {}
    for name, value in to_dict(RunConfig()).items():
        inner = {f"{name}.{key}": held for key, held in value.items()} if isinstance(value, dict) else {name: value}
        found.update({key: json.dumps(held) for key, held in inner.items()})
    return found


def settings_rows() -> list[str]:
    """The rows of the table of settings."""
    kinds, told, values = types(), meanings(), defaults()
    return [f"| `{key}` | {kinds[key]} | `{values[key]}` | {told[key]} |" for key in known_keys()]


def write() -> None:
    """Writes the parts that are made from the code."""
    os.environ["COLUMNS"] = COLUMNS
    parts = [f"## {command}\n\n```text\n{text}\n```\n" for command, text in helps().items()]
    CLI.write_text(CLI.read_text().split("\n## ")[0] + "\n" + "\n".join(parts))
    table = re.compile(r"(\| --- \| --- \| --- \| --- \|\n)(?:\| `.*\n)*")
    rows = "\n".join(settings_rows()) + "\n"
    SETTINGS.write_text(table.sub(lambda found: found[1] + rows, SETTINGS.read_text(), count=1))
    print(f"wrote {CLI} and {SETTINGS}")


def test_help_is_that_of_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", COLUMNS)
    told = dict(re.findall(r"^## ([^\n]+)\n\n```text\n(.*?)^```$", CLI.read_text(), re.DOTALL | re.MULTILINE))
    # Versions of Python break lines differently.
    found = {command: text.split() for command, text in told.items()}
    assert found == {command: text.split() for command, text in helps().items()}, "run python -m tests.test_docs"


def test_every_setting_is_told_with_its_type_and_default() -> None:
    found = [line for line in SETTINGS.read_text().splitlines() if re.match(r"\| `[a-z_.]+` \|", line)]
    assert found == settings_rows(), "run python -m tests.test_docs"


def test_nothing_is_told_twice() -> None:
    said = {key for key in UNSAID if "." in key and key.split(".")[1] in field_texts(_section(key))}
    assert said == set(), "these fields have a text of their own by now"
    assert set(UNSAID) <= set(known_keys())


def _section(key: str) -> type:
    return get_type_hints(RunConfig)[key.split(".")[0]]


def test_every_preset_is_told() -> None:
    told = re.findall(r"^\| `(\w+)` \|", section(SETTINGS, "Presets"), re.MULTILINE)
    assert told == list(presets.PRESETS)


# What a reader runs


def test_readme_trains_on_a_condensed_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = [block for block in blocks(README, "python") if "load_condensed" in block]
    condensed_run(small_config(iterations=2), tmp_path / "runs" / "demo")
    monkeypatch.chdir(tmp_path)
    names = _run(block)
    assert names["network"](names["dataset"].images).shape == (16, 4)


def test_readme_condenses_without_ray() -> None:
    (block,) = [block for block in blocks(README, "python") if "load_condensed" not in block]
    names = _run(block)
    assert names["train_images"].shape == (40, 1, 16, 16)
    assert names["train_labels"].bincount().tolist() == [4] * 10


def test_formats_reads_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = blocks(ROOT / "docs" / "formats.md", "python")
    condensed_run(small_config(iterations=2), tmp_path / "runs" / "demo")
    monkeypatch.chdir(tmp_path)
    assert _run(block)["images"].shape == (2, 1, 8, 8)


def _run(block: str) -> dict[str, Any]:
    for long, short in SHORTER.items():
        block = block.replace(long, short)
    names: dict[str, Any] = {}
    exec(compile(block, "a block of the documentation", "exec"), names)
    return names


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_parse(page: Path) -> None:
    for arguments in commands_of(page):
        given = _parser().parse_args(arguments)
        if given.action in (commands.evaluate, commands.compare, commands.report, commands.verify) or getattr(
            given, "config", None
        ):
            with_settings(presets.preset(presets.DEFAULT), getattr(given, "settings", []))
        elif hasattr(given, "settings"):
            commands.configuration(given)


def test_there_are_commands_to_parse() -> None:
    assert len(list(commands_of(README))) >= 5
    assert len(list(commands_of(CLI))) >= 4


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_settings_in_the_text_exist(page: Path) -> None:
    sections = {key.split(".")[0] for key in known_keys() if "." in key}
    named = [re.fullmatch(r"(?:--set )?(\w+)\.(\w+)(=.*)?", code) for code in inline_code(page)]
    keys = {f"{found[1]}.{found[2]}" for found in named if found and found[1] in sections}
    assert keys - {"data.pt"} <= set(known_keys())


def test_make_targets_exist() -> None:
    rules = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        named = {
            word
            for code in [*inline_code(page), *blocks(page, "bash")]
            for word in re.findall(r"\bmake ([a-z-]+)", code)
        }
        assert named <= rules, page.name


# What a reader opens


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)]*))?\)", page.read_text()):
        if target.startswith("http"):
            continue
        other = (page.parent / target) if target else page
        assert other.exists(), f"{page.name} links to {target}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", other.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}, anchor


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=lambda page: page.name)
def test_named_files_exist(page: Path) -> None:
    """All but the changelog's, which tells of files that are gone."""
    named = {code for code in inline_code(page) if re.fullmatch(rf"(?:{'|'.join(PACKAGES)}|tests|docs)/[\w./-]*", code)}
    assert sorted(name for name in named if not (ROOT / name).exists()) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_imported_names_exist(page: Path) -> None:
    for block in blocks(page, "python"):
        for node in ast.parse(block).body:
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in PACKAGES:
                module = importlib.import_module(str(node.module))
                assert [name.name for name in node.names if not hasattr(module, name.name)] == []


def test_the_tree_names_every_folder_and_no_other() -> None:
    named = set(re.findall(r"`((?:\w+/)+)`", section(README, "The tree")))
    assert sorted(name for name in named if not (ROOT / name).is_dir()) == []
    folders = {path.parent for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
    assert (
        sorted(f"{folder.relative_to(ROOT)}/" for folder in folders if f"{folder.relative_to(ROOT)}/" not in named)
        == []
    )
    assert {path.name for path in ROOT.iterdir() if (path / "__init__.py").exists()} == {*PACKAGES, "tests"}


def test_the_tree_lists_the_wings_in_the_order_of_their_layers() -> None:
    wings = re.findall(r"^\| `pipeline/(\w+)/` \|", section(README, "The tree"), re.MULTILINE)
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = (contract["layers"] for contract in contracts if contract.get("containers") == ["pipeline"])
    modules = [name for layer in layers for name in layer.split(" | ")]
    assert wings == [name for name in modules if (ROOT / "pipeline" / name).is_dir()]


if __name__ == "__main__":
    write()
