"""Audits the pinned packages, and writes their bill of materials: ``make audit``.

Known vulnerabilities come from the service that pip-audit asks. The exit code is 1 if there are any, and also if the
service does not answer or does not know a package: a package that nobody looked up is not a safe one.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NotRequired, TypedDict

TIMEOUT_S = 900
"""Seconds that one tool has."""


class Vulnerability(TypedDict):
    """One entry of pip-audit about a package."""

    id: str
    fix_versions: list[str]


class Package(TypedDict):
    """What pip-audit says about a package."""

    name: str
    version: NotRequired[str]
    vulns: NotRequired[list[Vulnerability]]
    skip_reason: NotRequired[str]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs both tools; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.supply.audit", description=__doc__)
    parser.add_argument(
        "--tools", required=True, type=Path, metavar="PATH", help="folder of pip-audit and cyclonedx-py"
    )
    parser.add_argument("--constraints", required=True, type=Path, metavar="FILE", help="the pinned versions")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="bill of materials (CycloneDX, JSON)")
    options = parser.parse_args(arguments)
    if (problem := bill_of_materials(options.tools, options.constraints, options.out)) is not None:
        return fail(f"no bill of materials: {problem}")
    print(f"wrote {options.out}")
    packages = audited(options.tools, options.constraints)
    if isinstance(packages, str):
        return fail(f"nothing was audited, the vulnerability service does not answer: {packages}")
    return report(packages)


def bill_of_materials(tools: Path, constraints: Path, out: Path) -> str | None:
    """Writes the bill of materials; returns the problem, or None."""
    out.parent.mkdir(parents=True, exist_ok=True)
    pyproject = constraints.parent / "pyproject.toml"
    described = ["--pyproject", str(pyproject)] if pyproject.exists() else []
    command = [
        str(tools / "cyclonedx-py"),
        "requirements",
        *described,
        "--of",
        "JSON",
        "-o",
        str(out),
        str(constraints),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    return last_line(done.stderr) if done.returncode else None


def audited(tools: Path, constraints: Path) -> list[Package] | str:
    """What is known about each package, or the problem if the service did not answer."""
    options = ["--no-deps", "--disable-pip", "--progress-spinner", "off", "--format", "json"]
    command = [str(tools / "pip-audit"), "--requirement", str(constraints), *options]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
        return json.loads(done.stdout)["dependencies"]
    except subprocess.TimeoutExpired:
        return f"no answer within {TIMEOUT_S} s"
    except (ValueError, KeyError):
        return last_line(done.stderr)


def report(packages: Sequence[Package]) -> int:
    """Prints what was found; returns the exit code."""
    for package in packages:
        for each in package.get("vulns", []):
            fixed = f"fixed in {', '.join(each['fix_versions'])}" if each["fix_versions"] else "not fixed yet"
            print(f"{package['name']} {package.get('version', '')}: {each['id']}, {fixed}")
    unknown = [package["name"] for package in packages if "skip_reason" in package]
    affected = [package["name"] for package in packages if package.get("vulns")]
    if unknown:
        what = f"the vulnerability service has no answer for {len(unknown)} of {len(packages)} packages"
        return fail(f"{what}, such as {unknown[0]}; use an index that has the JSON API of PyPI")
    if affected:
        return fail(f"{len(affected)} of {len(packages)} packages have known vulnerabilities")
    print(f"{len(packages)} packages have no known vulnerability")
    return 0


def last_line(text: str) -> str:
    """The last line that is not empty."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "without a message"


def fail(text: str) -> int:
    """Prints one line; returns the exit code."""
    print(f"error: {text}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
