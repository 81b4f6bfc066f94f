"""Which words of a command are paths: what the pipeline's own parser and settings say."""

import json
import re
from pathlib import Path

import pytest

from cluster.jobs.command_line import COMMANDS
from cluster.jobs.paths import paths_of
from docs import generate
from pipeline.cli.parser import build_parser
from pipeline.config.keys import keys


def found(*words: str) -> list[tuple[str, str]]:
    return [(each.option, each.path) for each in paths_of(words)]


def test_the_table_is_that_of_the_pipeline() -> None:
    assert generate.OPTIONS.read_text() == generate.options_table(), "out of date: run python -m docs.generate"


def test_every_setting_that_speaks_of_a_path_is_marked_as_one() -> None:
    meanings = generate.meanings()
    spoken = {
        name
        for name, key in keys().items()
        if str in key.kinds and re.search(r"\b(folder|file|path)\b", meanings[name], re.IGNORECASE)
    }
    assert spoken == set(generate.locations()), "give the setting the type Location, or say its meaning without a path"


def test_an_option_of_an_unknown_kind_is_refused_by_the_generator() -> None:
    parser = build_parser()
    action = parser.add_argument("--new", metavar="DIR")
    with pytest.raises(ValueError, match=r"new: say in PATHS or VALUES of docs/generate.py whether DIR is a path"):
        generate.kind_of(action)


def test_every_path_of_every_command_is_found() -> None:
    table = json.loads(generate.OPTIONS.read_text())
    options = [
        (command, name)
        for command in COMMANDS
        for name, kind in table["commands"][command]["options"].items()
        if kind in ("path", "config")
    ]
    assert {name for _, name in options} == {"--out", "--data", "--config", "--space"}
    for command, name in options:
        assert (name, "x/y") in found(command, name, "x/y")
        assert (name, "x/y") in found(command, f"{name}=x/y")
    for command in COMMANDS:
        for key in table["settings"]:
            assert (key, "x/y") in found(command, "--set", f"{key}=x/y")
            assert (key, "x/y") in found(command, f'--set={key}="x/y"')
            assert found(command, "--set", f"{key}=null") == []


@pytest.mark.parametrize(
    ("words", "paths"),
    [
        (["evaluate", "--seeds", "5", "runs/a"], [("evaluate", "runs/a")]),
        (["evaluate", "--debug", "runs/a", "--da", "photos"], [("evaluate", "runs/a"), ("--data", "photos")]),
        (["evaluate", "--", "runs/a"], [("evaluate", "runs/a")]),
        (["compare", "/a", "b.pt:idc"], [("compare", "/a"), ("compare", "b.pt:idc")]),
        (["tune", "--sp=space.yaml", "--trials", "2"], [("--space", "space.yaml")]),
        (["run", "--se", "data.cache=c"], [("data.cache", "c")]),
        (["run", "--preset", "--out", "x"], []),
        (["run", "--set", "data.classes=a/b"], []),
        (["run", "--out"], [("--out", "")]),
    ],
)
def test_words_are_read_as_the_pipeline_reads_them(words: list[str], paths: list[tuple[str, str]]) -> None:
    assert found(*words) == paths


@pytest.mark.parametrize(
    "document",
    [
        {"data": {"path": "photos"}},
        {"config": {"data": {"path": "photos"}}, "commit": None},
        {"data.path": "photos"},
    ],
)
def test_the_paths_in_a_file_of_settings_count_too(tmp_path: Path, document: object) -> None:
    path = tmp_path / "run.json"
    path.write_text(json.dumps(document))
    assert found("run", "--config", str(path)) == [("--config", str(path)), ("data.path", "photos")]


@pytest.mark.parametrize("text", ["", "[1]", "{", "[" * 100_000, '{"data": 3}', '{"data": {"path": null}}'])
def test_a_file_that_cannot_be_read_here_is_left_to_the_pipeline(tmp_path: Path, text: str) -> None:
    path = tmp_path / "run.json"
    path.write_text(text)
    assert found("run", "--config", str(path)) == [("--config", str(path))]
    assert found("run", "--config", str(tmp_path)) == [("--config", str(tmp_path))]
