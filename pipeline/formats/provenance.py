"""Versions and commit that a result was computed with."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("m3d-condense", "torch", "torchvision", "ray", "pyarrow", "numpy")
"""Packages whose versions are recorded."""


def joined(before: str | None, now: str | None) -> str | None:
    """Returns the commits that contributed to a result, in their order, separated by commas; each is listed once."""
    if not before or not now:
        return before or now
    return before if now in before.split(", ") else f"{before}, {now}"


def versions() -> dict[str, str]:
    """Returns the versions of Python, of this project and of the packages that the numbers depend on."""
    installed = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            installed[name] = version(name)
        except PackageNotFoundError:
            installed[name] = "not installed"
    return installed


def commit() -> str | None:
    """Returns the commit of the running checkout, with ``-dirty`` if files differ from it, or None outside of a checkout."""
    folder = Path(__file__).resolve().parents[2]
    if not (folder / ".git").exists():
        return None
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
