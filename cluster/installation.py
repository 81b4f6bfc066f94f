"""What is installed: which extra brings a missing package, and whether another project has overwritten this one's files."""

import os
import sys
from pathlib import Path

from cluster.errors import ClusterError

DISTRIBUTION = "m3d-condense"
PACKAGES = ("m3d", "pipeline", "cluster")
"""Top-level packages of this project. Other projects on the index have the same names."""


def advice(error: ModuleNotFoundError) -> str:
    """Returns what to install for a package that is missing."""
    return f"this needs {error.name}, which is not installed: pip install '{DISTRIBUTION}[run]'"


def check() -> None:
    """Raises ClusterError if another project's files are among this one's. Reads one folder and imports nothing."""
    home = Path(__file__).resolve().parent.parent
    try:
        names = os.listdir(home)
    except OSError:
        names = []
    found = {name.partition("-")[0].lower() for name in names if name.endswith((".dist-info", ".egg-info"))}
    strangers = [name for name in PACKAGES if name in found]
    if not strangers and getattr(sys.modules.get("cluster"), "DISTRIBUTION", "") != DISTRIBUTION:
        strangers = ["cluster"]
    if strangers:
        raise ClusterError(
            f"{home}: another project called {' and '.join(strangers)} was installed over the files of {DISTRIBUTION}; repair it "
            f"with pip uninstall --yes {' '.join(strangers)} && "
            f"pip install --force-reinstall --no-deps PATH, where PATH is the wheel or the checkout of {DISTRIBUTION}"
        )
