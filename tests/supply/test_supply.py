"""The constraints are complete and nothing but names and versions; the audit says what was not looked up."""

import json
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.supply import audit, constraints

PROJECT = tomllib.loads((constraints.ROOT / "pyproject.toml").read_text())["project"]


def pinned(path: Path) -> dict[str, str]:
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    assert [line for line in lines if not re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.!]*", line)] == []
    return dict(line.split("==") for line in lines)


def required(*extras: str) -> list[Requirement]:
    found = [Requirement(text) for text in PROJECT["dependencies"]]
    todo = list(extras)
    while todo:
        for requirement in map(Requirement, PROJECT["optional-dependencies"][todo.pop()]):
            if requirement.name == PROJECT["name"]:  # an extra that contains others
                todo += requirement.extras
            else:
                found.append(requirement)
    return found


@pytest.mark.parametrize(("path", "extras"), [(constraints.ALL, constraints.EXTRAS), (constraints.IMAGE, ("all",))])
def test_every_dependency_is_pinned_to_a_version_that_the_project_allows(path: Path, extras: Sequence[str]) -> None:
    versions = pinned(path)
    for requirement in required(*extras):
        name = canonicalize_name(requirement.name)
        assert name in versions, f"{name}: run make constraints after the tests have passed"
        assert requirement.specifier.contains(versions[name], prereleases=True)


def test_the_image_has_the_versions_of_the_tests() -> None:
    everything = pinned(constraints.ALL)
    assert pinned(constraints.IMAGE).items() <= everything.items()
    assert "pytest" not in pinned(constraints.IMAGE)


def test_the_closure_has_what_newer_versions_of_python_need_and_no_other_extras() -> None:
    found = constraints.installed(["test"])
    assert {"torch", "ray", "setuptools", "virtualenv", "pytest", "moto"} <= found.keys()
    assert constraints.PROJECT not in found
    assert constraints.installed().items() < constraints.installed(["all"]).items() < found.items()
    assert "ray" not in constraints.installed()
    assert not constraints.applies(Requirement('x; extra == "serve"'), "")
    assert constraints.applies(Requirement('x; python_version >= "3.13"'), "")
    assert constraints.page("# head", {"a": "1"}) == "# head\na==1\n"


TOOL = """#!/usr/bin/env bash
{}
"""


def tools(folder: Path, pip_audit: str, cyclonedx: str = "exit 0") -> list[str]:
    """Options that run these scripts instead of the tools."""
    for name, script in (("pip-audit", pip_audit), ("cyclonedx-py", cyclonedx)):
        (folder / name).write_text(TOOL.format(script))
        (folder / name).chmod(0o755)
    (folder / "constraints.txt").write_text("a==1\nb==2\n")
    out = folder / "dist" / "sbom.json"
    return ["--tools", str(folder), "--constraints", str(folder / "constraints.txt"), "--out", str(out)]


def answer(*packages: object) -> str:
    return f"echo '{json.dumps({'dependencies': packages, 'fixes': []})}'"


A, B = {"name": "a", "version": "1", "vulns": []}, {"name": "b", "version": "2", "vulns": []}
BAD = {"name": "b", "version": "2", "vulns": [{"id": "PYSEC-1", "fix_versions": ["3"]}]}
SKIPPED = {"name": "b", "skip_reason": "Dependency not found on PyPI and could not be audited: b (2)"}


@pytest.mark.parametrize(
    ("script", "code", "message"),
    [
        (answer(A, B), 0, ""),
        (answer(A, BAD) + "; exit 1", 1, "1 of 2 packages have known vulnerabilities"),
        (answer(A, SKIPPED), 1, "the vulnerability service has no answer for 1 of 2 packages, such as b; use an index"),
        (
            "echo Traceback >&2; echo 'ConnectionError: no name' >&2; exit 1",
            1,
            "does not answer: ConnectionError: no name",
        ),
        ("exit 1", 1, "nothing was audited, the vulnerability service does not answer: without a message"),
    ],
)
def test_the_audit_fails_in_one_line_unless_everything_was_looked_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], script: str, code: int, message: str
) -> None:
    assert audit.main(tools(tmp_path, script)) == code
    output = capsys.readouterr()
    assert message in output.err
    assert len(output.err.splitlines()) == code
    assert ("b 2: PYSEC-1, fixed in 3" in output.out) is ("PYSEC" in script)


def test_a_bill_of_materials_that_cannot_be_written_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert audit.main(tools(tmp_path, answer(A, B), "echo broken >&2; exit 2")) == 1
    assert capsys.readouterr().err == "error: no bill of materials: broken\n"
