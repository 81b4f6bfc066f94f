"""What is installed: the extras that bring a package, and whether another project has overwritten this one's files.

The index has other projects called ``m3d``, ``pipeline`` and ``cluster``. Installed beside this one, they write to the
same folders.
"""

import os
import sys
from pathlib import Path

from pipeline.errors import UserError

DISTRIBUTION = "m3d-condense"
PACKAGES = ("m3d", "pipeline", "cluster")
"""Top-level packages of this project, each with its name as ``DISTRIBUTION``."""
EXTRAS = {
    "run": (
        "ray",
        "torchvision",
        "scipy",
        "sklearn",
        "jinja2",
        "matplotlib",
        "tensorboardX",
        "psutil",
        "rich",
        "shtab",
    ),
    "s3": ("s3fs", "aiobotocore", "botocore", "aiohttp"),
    "tune": ("optuna",),
}
"""Packages, as they are imported, that each extra in pyproject.toml installs."""


def advice(error: ModuleNotFoundError) -> str | None:
    """Returns which extra brings the package that is missing, or None if none does."""
    name = (error.name or "").partition(".")[0]
    extra = next((extra for extra, names in EXTRAS.items() if name in names), None)
    return f"this needs {name}, which is not installed: pip install '{DISTRIBUTION}[{extra}]'" if extra else None


def check() -> None:
    """Raises UserError if another project's files are among this one's. Reads one folder and imports nothing."""
    home = Path(__file__).resolve().parent.parent
    strangers = _strangers(home)
    foreign = [
        name for name in ("m3d", "pipeline") if getattr(sys.modules.get(name), "DISTRIBUTION", "") != DISTRIBUTION
    ]
    if strangers or foreign:
        names = " and ".join(strangers or foreign)
        raise UserError(
            f"{home}: another project called {names} was installed over the files of {DISTRIBUTION}; repair it with "
            f"pip uninstall --yes {' '.join(strangers or foreign)} && "
            f"pip install --force-reinstall --no-deps PATH, where PATH is the wheel or the checkout of {DISTRIBUTION}"
        )


def _strangers(home: Path) -> list[str]:
    """Other projects that are installed in this folder under the name of one of the packages."""
    try:
        names = os.listdir(home)
    except OSError:
        return []
    found = {name.partition("-")[0].lower() for name in names if name.endswith((".dist-info", ".egg-info"))}
    return [name for name in PACKAGES if name in found]
