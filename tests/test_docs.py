"""README.md and docs/ say what the code does: the generated pages are up to date, and what is named exists.

``tests/documentation`` runs the code in them, checks the commands and builds the site.
"""

import ast
import importlib
import re
import tomllib
from pathlib import Path

import pytest

from docs import generate
from pipeline.config import presets
from pipeline.config.keys import keys
from tests.documentation.pages import CHANGELOG, PAGES, README, ROOT, code_blocks, inline_code, name_of, section

SETTINGS, CLI, TREE = (ROOT / "docs" / name for name in ("configuration.md", "cli.md", "architecture.md"))
PACKAGES = ("m3d", "pipeline", "cluster")
STALE = "out of date: run python -m docs.generate"

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


# What a reader looks up


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_settings_in_the_text_exist(page: Path) -> None:
    sections = {key.split(".")[0] for key in keys() if "." in key}
    named = [re.fullmatch(r"(?:--set )?(\w+)\.(\w+)(=.*)?", code) for code in inline_code(page)]
    settings = {f"{found[1]}.{found[2]}" for found in named if found and found[1] in sections}
    assert settings - {"data.pt", "report.html"} <= set(keys())  # names of files


def test_make_targets_exist() -> None:
    rules = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        named = {word for code in inline_code(page) for word in re.findall(r"\bmake ([a-z-]+)", code)}
        assert named <= rules, page.name


def test_the_readme_is_short() -> None:
    assert len(README.read_text().splitlines()) <= 150


# What a reader opens


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)]*))?\)", page.read_text()):
        if target.startswith("http"):
            continue
        other = (page.parent / target) if target else page
        assert other.exists(), f"{page.name} links to {target}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", other.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}, anchor


@pytest.mark.parametrize("page", [page for page in PAGES if page != CHANGELOG], ids=name_of)
def test_named_files_exist(page: Path) -> None:
    """All but the changelog's, which tells of files that are gone."""
    named = {code for code in inline_code(page) if re.fullmatch(rf"(?:{'|'.join(PACKAGES)}|tests|docs)/[\w./-]*", code)}
    assert sorted(name for name in named if not (ROOT / name).exists()) == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_imported_names_exist(page: Path) -> None:
    for block in code_blocks(page, "python"):
        for node in ast.parse(block.text).body:
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in PACKAGES:
                module = importlib.import_module(str(node.module))
                assert [name.name for name in node.names if not hasattr(module, name.name)] == []


def test_the_tree_names_every_folder_and_no_other() -> None:
    named = set(re.findall(r"`((?:\w+/)+)`", section(TREE, "The tree")))
    assert sorted(name for name in named if not (ROOT / name).is_dir()) == []
    folders = {path.parent for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
    assert (
        sorted(f"{folder.relative_to(ROOT)}/" for folder in folders if f"{folder.relative_to(ROOT)}/" not in named)
        == []
    )
    assert {path.name for path in ROOT.iterdir() if (path / "__init__.py").exists()} == {*PACKAGES, "tests"}


def test_the_tree_lists_the_wings_in_the_order_of_their_layers() -> None:
    wings = re.findall(r"^\| `pipeline/(\w+)/` \|", section(TREE, "The tree"), re.MULTILINE)
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = (contract["layers"] for contract in contracts if contract.get("containers") == ["pipeline"])
    modules = [name for layer in layers for name in layer.split(" | ")]
    assert wings == [name for name in modules if (ROOT / "pipeline" / name).is_dir()]
