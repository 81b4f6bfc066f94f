"""The Python of the documentation runs on a small finished run, and its excerpts of files have the keys of the files."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.errors import ClusterError
from cluster.jobs import profile
from pipeline.config import presets
from pipeline.errors import UserError
from pipeline.tune.space_file import space_of_file
from tests.documentation.pages import PAGES, Block, all_blocks, code_blocks, name_of

LANGUAGES = {"bash", "bibtex", "json", "python", "text", "yaml"}
"""Languages of blocks. Text is what a program prints or a tree of folders, and is not checked."""
SHORTER = {"iterations=60": "iterations=2", "epochs=100": "epochs=2", "range(100)": "range(2)"}
"""What the tests change in Python, for time."""
NOT_RUN = {"import ray\n": "starts Ray; tests/pipeline/exports/test_documented.py runs it on the cluster of the tests"}
"""Python blocks that are not run here, by what they contain: why."""


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_has_a_language(page: Path) -> None:
    assert {str(block): block.language for block in code_blocks(page) if block.language not in LANGUAGES} == {}


# Python


@pytest.mark.parametrize("block", all_blocks("python"), ids=str)
def test_python_runs(block: Block, demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if any(part in block.text for part in NOT_RUN):
        pytest.skip(next(why for part, why in NOT_RUN.items() if part in block.text))
    shutil.copytree(demo, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    run(block)


def run(block: Block) -> dict[str, Any]:
    """The names after the block has run, shortened."""
    text = block.text
    for long, short in SHORTER.items():
        text = text.replace(long, short)
    names: dict[str, Any] = {}
    exec(compile(text, str(block), "exec"), names)
    return names


def test_what_is_not_run_is_on_a_page() -> None:
    texts = [block.text for block in all_blocks("python")]
    assert [part for part in NOT_RUN if not any(part in text for text in texts)] == []


# Files


@pytest.mark.parametrize("block", all_blocks("yaml"), ids=str)
def test_yaml_is_read(block: Block, tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"
    path.write_text(block.text)
    problems = []
    config = presets.preset(presets.DEFAULT)
    for read in (lambda: profile.read(str(path), {}), lambda: space_of_file(str(path), config)):
        try:
            read()
            return
        except (ClusterError, UserError) as error:
            problems.append(str(error))
    pytest.fail(f"{block}: neither a profile nor a search space: {problems}")


@pytest.mark.parametrize("block", all_blocks("json"), ids=str)
def test_json_has_the_keys_of_a_file(block: Block, demo: Path) -> None:
    for keys in documents_in(block.text):
        assert any(keys <= document for document in documents(demo)), f"{block}: {sorted(keys)}"


def documents(home: Path) -> Iterator[set[str]]:
    """Keys of every JSON document of the run, and of every line of its logs."""
    for path in sorted(home.rglob("*.json")):
        yield set(json.loads(path.read_text()))
    for path in sorted(home.rglob("*.jsonl")):
        for line in path.read_text().splitlines():
            yield set(json.loads(line))


def documents_in(text: str) -> Iterator[set[str]]:
    """Keys of the outermost objects of an excerpt, in which ``...`` stands for what is left out."""
    depth, inside, word = 0, False, ""
    keys: set[str] = set()
    for character in text:
        if character == '"':
            inside = not inside
            word = "" if inside else word
        elif inside:
            word = f"{word}{character}"
        elif character == ":" and depth == 1:
            keys.add(word)
        elif character in "{[":
            depth += 1
        elif character in "]}":
            depth -= 1
            if depth == 0:
                yield keys
                keys = set()
