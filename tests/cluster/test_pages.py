"""What README and docs/cluster.md say about ``python -m cluster``."""

import re
import shlex
from pathlib import Path

import pytest

from cluster.cli import commands as cluster_commands
from cluster.cli.main import split
from cluster.cli.parser import build_parser as build_cluster_parser
from cluster.jobs import command_line, profile
from pipeline.cli import commands
from pipeline.cli.parser import build_parser
from pipeline.observability.prometheus import NAMES, OF_A_GROUP, OF_A_STAGE
from tests.test_docs import PAGES, ROOT, blocks, inline_code

PAGE = ROOT / "docs" / "cluster.md"


def commands_of(page: Path) -> list[list[str]]:
    """Arguments of every ``python -m cluster`` command."""
    lines = [line for block in blocks(page, "[a-z]*") for line in block.replace("\\\n", " ").splitlines()]
    matches = [re.match(r"\s*(?:\w+=\S+ )*python -m cluster (.+)", line) for line in [*lines, *inline_code(page)]]
    return [shlex.split(match[1], comments=True) for match in matches if match]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_parse(page: Path) -> None:
    for arguments in commands_of(page):
        before, after = split(arguments)
        options = build_cluster_parser().parse_args(before)
        assert (after is not None) == (options.action is cluster_commands.submit), arguments
        if after is not None:
            command_line.check(after, {})
            commands.configuration(build_parser().parse_args(after))


def test_there_are_commands_to_parse() -> None:
    assert len(commands_of(PAGE)) >= 8
    assert len(commands_of(ROOT / "README.md")) >= 3


def test_every_command_is_described() -> None:
    described = {arguments[0] for arguments in commands_of(PAGE)}
    assert described == {"submit", "status", "logs", "stop", "list", "up-local", "down-local"}


def test_the_profile_is_valid(tmp_path: Path) -> None:
    (block,) = blocks(PAGE, "yaml")
    path = tmp_path / "profile.yaml"
    path.write_text(block)
    shown = profile.read(str(path), {})
    assert shown == profile.Profile(address="http://HEAD:8265")


def test_every_metric_is_described() -> None:
    rows = re.findall(r"^\| `(ray_\w+)` \| ([a-z, ]+) \| (.*) \|$", PAGE.read_text(), re.MULTILINE)
    expected = [
        (
            f"ray_{name}" + ("_total" if name == "m3d_retries" else ""),
            "run, group" if name in OF_A_GROUP else "out, stage" if name in OF_A_STAGE else "run",
            text,
        )
        for name, text in NAMES.items()
    ]
    assert rows == expected


def test_paths_in_the_text_exist() -> None:
    named = [code for code in inline_code(PAGE) if re.fullmatch(r"cluster/[\w./]+", code)]
    assert len(named) >= 5
    assert [name for name in named if not (ROOT / name).exists()] == []
