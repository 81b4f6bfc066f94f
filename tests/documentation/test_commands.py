"""Every command in the documentation would be accepted."""

from pathlib import Path

import pytest
from click import ClickException

from cluster.errors import ClusterError
from pipeline.errors import UserError
from tests.documentation.commands import check, commands_in, commands_of_block, commands_of_text
from tests.documentation.pages import CHANGELOG, PAGES, README, code_blocks, name_of

SHELL = ("bash", "console", "sh")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_are_accepted(page: Path) -> None:
    for language in SHELL:
        for block in code_blocks(page, language):
            for words in commands_of_block(block):
                accept(words, str(block))


@pytest.mark.parametrize("page", [page for page in PAGES if page != CHANGELOG], ids=name_of)
def test_commands_in_the_text_are_accepted(page: Path) -> None:
    """The changelog's may be those of older versions."""
    for words in commands_of_text(page):
        accept(words, page.name)


def accept(words: list[str], where: str) -> None:
    """Fails with the place and the command if it is not accepted."""
    try:
        check(words)
    except (Exception, SystemExit) as error:
        pytest.fail(f"{where}: {' '.join(words)}: {error!r}")


def test_there_are_commands_to_check() -> None:
    counts = {page.name: sum(len(commands_of_block(block)) for block in code_blocks(page, "bash")) for page in PAGES}
    least = {README.name: 5, "quickstart.md": 8, "cluster.md": 15, "data.md": 4, "results.md": 20}
    assert {name: counts[name] for name, count in least.items() if counts[name] < count} == {}


@pytest.mark.parametrize(
    "wrong",
    [
        "m3d run --preset digits_ipc1",  # without --out
        "m3d run --preset digits_ipc2 --out OUT",
        "m3d run --preset digits_ipc1 --set condense.iteration=5 --out OUT",
        "m3d nothing",
        "m3d cluster submit -- run --preset digits_ipc1 --out relative/path",
        "m3d cluster stop --",
        "python -m pipeline evaluate runs/demo --set evaluate.seed=5",
        "python -m tests.nothing",
        "python examples/nothing.py",
        "make nothing",
        "pip install .[nothing]",
        "ray job submit --adress X -- m3d run --preset digits_ipc1 --out OUT",
        "ray job submit -- m3d run --out",
        "sbatch cluster/deploy/nothing.sbatch run --preset digits_ipc1 --out /shared/OUT",
        "kubectl apply --filename cluster/deploy/nothing.yaml",
        "curl example.org",
        "cd x && make nothing",
    ],
)
def test_a_wrong_command_is_refused(wrong: str) -> None:
    with pytest.raises((AssertionError, KeyError, SystemExit, ClickException, ClusterError, UserError)):
        check_all(wrong)


def check_all(script: str) -> None:
    """Checks every command of a script."""
    for words in commands_in(script):
        check(words)


def test_commands_are_taken_from_scripts() -> None:
    script = "A=1 m3d run \\\n  --out X > log  # now\n# not this\ncd y && make test | tee z; export B=2\n"
    assert list(commands_in(script)) == [
        ["m3d", "run", "--out", "X"],
        ["cd", "y"],
        ["make", "test"],
        ["tee", "z"],
        ["export", "B=2"],
    ]
