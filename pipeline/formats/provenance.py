"""Which versions and which commit something was made with."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("m3d-condense", "torch", "torchvision", "ray", "pyarrow", "numpy")


def joined(before: str | None, now: str | None) -> str | None:
    """The commits that had a part in something, in their order, with commas between them."""
    if not before or not now:
        return before or now
    return before if now in before.split(", ") else f"{before}, {now}"


def versions() -> dict[str, str]:
    """Of this project and of what the numbers depend on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def commit() -> str | None:
    """The commit of the checkout that runs, with ``-dirty`` where files differ from it; None outside of one."""
    folder = Path(__file__).resolve().parents[2]
    if not (folder / ".git").exists():
        return None
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
