"""Writes the constraints from the installed packages: ``python -m tests.supply.constraints``, or ``make constraints``.

``constraints.txt`` pins everything that the project, its tests, site and examples need, ``cluster/deploy/constraints.txt`` what the image
needs. Run the tests first: the files say with which versions they passed.
"""

from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
PROJECT = "m3d-condense"
EXTRAS = ("test", "docs", "examples")
"""Extras that ``make`` installs for the tests, the site and the examples."""
PYTHONS = ("3.11", "3.12", "3.13")
"""Versions of Python whose dependencies are pinned, as far as they are installed."""
ALL = ROOT / "constraints.txt"
IMAGE = ROOT / "cluster" / "deploy" / "constraints.txt"
ALL_HEADER = "# Versions with which the tests ran; continuous integration installs them. Written by make constraints."
IMAGE_HEADER = "# Versions of the packages in the image; the tests ran with them. Written by make constraints."


def installed(extras: Iterable[str] = ()) -> dict[str, str]:
    """Versions of all packages that the project needs, directly or not, by name."""
    found: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    todo = [(PROJECT, extra) for extra in ("", *extras)]
    while todo:
        name, extra = todo.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        try:
            package = distribution(name)
        except PackageNotFoundError:  # of another version of Python, or of another system
            continue
        if name != PROJECT:
            found[name] = Version(package.version).public
        for requirement in map(Requirement, package.requires or ()):
            if applies(requirement, extra):
                todo += [(canonicalize_name(requirement.name), each) for each in ("", *requirement.extras)]
    return dict(sorted(found.items()))


def applies(requirement: Requirement, extra: str) -> bool:
    """Whether a requirement applies to one of the versions of Python, with this extra or without any."""
    marker = requirement.marker
    return marker is None or any(
        marker.evaluate({"extra": extra, "python_version": python, "python_full_version": f"{python}.0"})
        for python in PYTHONS
    )


def page(header: str, versions: dict[str, str]) -> str:
    """The text of a file of constraints: names and versions, no addresses."""
    return "".join(f"{line}\n" for line in (header, *(f"{name}=={version}" for name, version in versions.items())))


def write() -> None:
    """Writes both files."""
    for path, header, extras in ((ALL, ALL_HEADER, EXTRAS), (IMAGE, IMAGE_HEADER, ("all",))):
        path.write_text(page(header, installed(extras)))
        print(f"wrote {path}")


if __name__ == "__main__":
    write()
