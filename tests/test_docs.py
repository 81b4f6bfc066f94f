"""README.md and docs/ say what the code does: blocks run, commands parse, and the generated pages are up to date."""

import ast
import importlib
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from docs import generate
from pipeline.cli import commands
from pipeline.cli.parser import build_parser
from pipeline.config import presets
from pipeline.config.keys import keys
from pipeline.config.parsing import with_settings
from tests.pipeline.evaluate.test_stage import condensed_run
from tests.pipeline.support.runs import small_config

ROOT = Path(__file__).resolve().parent.parent
README, SETTINGS, CLI = ROOT / "README.md", ROOT / "docs" / "configuration.md", ROOT / "docs" / "cli.md"
PACKAGES = ("m3d", "pipeline", "cluster")
PAGES = [README, ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
STALE = "out of date: run python -m docs.generate"
SHORTER = {"iterations=60": "iterations=2", "epochs=100": "epochs=2"}
"""What the tests change in README's Python, for time."""


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


# What is generated from the code


def test_help_is_that_of_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", generate.COLUMNS)
    shown = dict(re.findall(r"^## ([^\n]+)\n\n```text\n(.*?)^```$", CLI.read_text(), re.DOTALL | re.MULTILINE))
    # Versions of Python break lines differently.
    words = {command: text.split() for command, text in shown.items()}
    assert words == {command: text.split() for command, text in generate.helps().items()}, STALE


def test_every_setting_is_listed_with_its_type_default_and_meaning() -> None:
    rows = [line for line in SETTINGS.read_text().splitlines() if re.match(r"\| `[a-z_.]+` \|", line)]
    assert rows == generate.settings_rows(), STALE


def test_every_setting_has_a_docstring() -> None:
    assert [key for key in keys() if not generate.meanings().get(key)] == []


def test_generating_changes_nothing_but_the_generated_parts() -> None:
    assert generate.settings_page() == SETTINGS.read_text(), STALE
    assert generate.cli_page().split("\n## ")[0] == CLI.read_text().split("\n## ")[0]


def test_every_preset_is_listed() -> None:
    listed = re.findall(r"^\| `(\w+)` \|", section(SETTINGS, "Presets"), re.MULTILINE)
    assert listed == list(presets.PRESETS)


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
        given = build_parser().parse_args(arguments)
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
    sections = {key.split(".")[0] for key in keys() if "." in key}
    named = [re.fullmatch(r"(?:--set )?(\w+)\.(\w+)(=.*)?", code) for code in inline_code(page)]
    settings = {f"{found[1]}.{found[2]}" for found in named if found and found[1] in sections}
    assert settings - {"data.pt", "report.html"} <= set(keys())  # names of files


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
