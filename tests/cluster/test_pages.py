"""What docs/cluster.md says about ``m3d cluster``."""

import re
from pathlib import Path

from cluster.cli.parser import build_parser
from cluster.jobs import profile
from pipeline.observability.prometheus import NAMES, OF_A_GROUP, OF_A_STAGE
from tests.documentation.commands import commands_of_block, commands_of_text, subcommands
from tests.documentation.pages import ROOT, code_blocks, inline_code

PAGE = ROOT / "docs" / "cluster.md"


def test_every_command_is_described() -> None:
    texts = [
        *(words for block in code_blocks(PAGE, "bash") for words in commands_of_block(block)),
        *commands_of_text(PAGE),
    ]
    described = {words[2] for words in texts if words[:2] == ["m3d", "cluster"] and words[2:]}
    assert described == subcommands(build_parser())


def test_the_profile_is_valid(tmp_path: Path) -> None:
    (block,) = code_blocks(PAGE, "yaml")
    path = tmp_path / "profile.yaml"
    path.write_text(block.text)
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
