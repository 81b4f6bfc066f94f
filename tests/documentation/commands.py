"""Whether a command in the documentation would be accepted: every program has a check, and one without is an error.

Our own programs are asked: their parsers, then the validation of the configuration. Of a program that is not installed with
the tests, such as kubectl, the files of this project that it is given must exist.
"""

import argparse
import importlib.util
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import click
from packaging.requirements import Requirement

from cluster.cli import commands as cluster_commands
from cluster.cli.main import split
from cluster.cli.parser import build_parser as build_cluster_parser
from cluster.jobs import command_line
from pipeline.cli import commands
from pipeline.cli.parser import build_parser
from pipeline.config import presets
from pipeline.config.parsing import with_settings
from tests.documentation.pages import ROOT, Block, inline_code

OURS = re.compile(r"(?:m3d|python3? -m (?:pipeline|cluster))\s")
"""How running text begins a command of ours."""
ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=.*")
Words = list[str]


def commands_in(text: str) -> Iterator[Words]:
    """The commands of a shell script, one after another, without their variables, redirections and comments."""
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
        lexer.whitespace_split = True
        command: Words = []
        for word in [*lexer, ";"]:
            if not set(word) <= set("|&;"):
                command.append(word)
                continue
            if command := without_surroundings(command):
                yield command
            command = []


def without_surroundings(words: Words) -> Words:
    """A command without the variables before it and the redirection after it."""
    words = words[: next((at for at, word in enumerate(words) if set(word) <= set("<>")), len(words))]
    first = next((at for at, word in enumerate(words) if not ASSIGNMENT.fullmatch(word)), len(words))
    return words[first:]


def commands_of_block(block: Block) -> list[Words]:
    """The commands of a block."""
    return list(commands_in(block.text))


def commands_of_text(page: Path) -> list[Words]:
    """Our own commands in the running text of a page."""
    return [words for code in inline_code(page) if OURS.match(code) for words in commands_in(code)]


def check(words: Words) -> None:
    """Raises an exception unless the command would be accepted."""
    program = words[0].removeprefix(".venv/bin/")
    if program.startswith("examples/"):
        check_files(words)
        return
    assert program in CHECKS, f"no check in tests/documentation/commands.py knows the program {program}"
    CHECKS[program](words[1:])


def check_pipeline(words: Words) -> None:
    """``python -m pipeline``: its parser, and the configuration. A command alone only has to exist."""
    if len(words) == 1 and not words[0].startswith("-"):
        assert words[0] in subcommands(build_parser("m3d")), words
        return
    if words == ["--version"]:
        return
    given = build_parser().parse_args(words)
    from_options = given.action is not commands.compare and not getattr(given, "config", None)
    if hasattr(given, "preset") and from_options:
        commands.configuration(given)
    else:  # the rest of the configuration is in a file or a folder
        with_settings(presets.preset(presets.DEFAULT), getattr(given, "settings", []))


def check_cluster(words: Words) -> None:
    """``python -m cluster``: its parser, then the submitted command as the job server and as the pipeline sees it."""
    if len(words) == 1 and not words[0].startswith("-"):
        assert words[0] in subcommands(build_cluster_parser()), words
        return
    before, after = split(words)
    options = build_cluster_parser().parse_args(before)
    submits = options.action is cluster_commands.submit
    assert after is None or submits, words
    if submits and after is None:
        assert options.profile, words
        check_files([options.profile])
    if after is not None:
        command_line.check(after, {})
        check_pipeline(after)


def subcommands(parser: argparse.ArgumentParser) -> set[str]:
    """The names of a parser's commands."""
    (added,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return set(added.choices)


def check_m3d(words: Words) -> None:
    """``m3d``: the pipeline, or ``m3d cluster``."""
    if words[0] == "cluster" and words[1:]:
        check_cluster(words[1:])
    else:
        check_pipeline(words)


def check_python(words: Words) -> None:
    """``python -m MODULE`` or ``python FILE``: a program of ours, or a module or file that exists."""
    if words[0] != "-m":
        check_files(words)
        return
    _, module, *rest = words
    if module in ("pipeline", "cluster"):
        (check_pipeline if module == "pipeline" else check_cluster)(rest)
        return
    assert importlib.util.find_spec(module) is not None, f"there is no module {module}"
    check_files(rest)


def check_make(words: Words) -> None:
    """``make``: its targets exist."""
    rules = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {word for word in words if "=" not in word} <= rules, words


def check_pip(words: Words) -> None:
    """``pip install``: names of packages, and extras that this project has."""
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    command, *rest = words
    assert command in ("install", "uninstall")
    for word in rest:
        if word.startswith("-"):
            continue
        here = re.fullmatch(r"(?:\.|\S*\.whl)(?:\[([\w,]+)\])?", word)
        extras = set(filter(None, (here[1] or "").split(","))) if here else set()
        if not here and (named := Requirement(word)).name == project["name"]:
            extras = named.extras
        assert extras <= project["optional-dependencies"].keys(), word


def check_ray(words: Words) -> None:
    """``ray``: its own parser, and what it submits."""
    from ray.scripts.scripts import cli

    before, after = split(words)
    # Ray's job server has a parser of its own below it, so the first word is looked up and the rest is parsed there.
    command = cli.commands[before[0]]
    rest = before[1:]
    while isinstance(command, click.Group) and rest:
        command, rest = command.commands[rest[0]], rest[1:]
    with command.make_context(before[0], [*rest, *(after or [])], resilient_parsing=True):
        pass
    options = {name for parameter in command.params for name in parameter.opts}
    assert {word.split("=")[0] for word in rest if word.startswith("--")} <= options, words
    check_files(rest)
    if after is not None:
        check(after)


def check_sbatch(words: Words) -> None:
    """``sbatch``: the script exists, and its arguments are a command of the pipeline."""
    script = next(at for at, word in enumerate(words) if not word.startswith("-"))
    check_files(words[: script + 1])
    check_pipeline(words[script + 1 :])


def check_files(words: Words) -> None:
    """Any other program: words that look like files of this project are."""
    for word in words:
        name = word.split("=", 1)[-1] if word.startswith("-") else word
        if re.match(r"(?:cluster|docs|examples|m3d|pipeline|tests)/", name):
            assert (ROOT / name).exists(), f"there is no {name}"


CHECKS: dict[str, Callable[[Words], None]] = {
    "m3d": check_m3d,
    "python": check_python,
    "python3": check_python,
    "make": check_make,
    "pip": check_pip,
    "ray": check_ray,
    "sbatch": check_sbatch,
    **dict.fromkeys((".", "cd", "docker", "export", "kubectl", "mkdir", "tar", "tensorboard"), check_files),
}
"""The check of every program that the documentation may name."""
