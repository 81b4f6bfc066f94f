"""What of this project travels with a job: the packages that a node runs, and nothing else."""

import os
from pathlib import Path

from cluster.errors import ClusterError

NEEDED = ("m3d", "pipeline")
EXCLUDES = ("/*", "!/.", *(f"!/{name}" for name in NEEDED), "__pycache__", "*.pyc")
"""In the manner of .gitignore: everything, but the folder itself and the packages, but what Python leaves in them."""
LIMIT_BYTES = 100 * 2**20
"""What Ray's job server takes; it refuses more only after the upload."""
PER_FILE_BYTES = 512
"""Of names and tables in the archive, which is not compressed; an upper bound."""


def project() -> Path:
    """The folder that holds the packages: a checkout, or where they are installed."""
    return Path(__file__).resolve().parents[2]


def check_size(root: Path, limit: int = LIMIT_BYTES) -> int:
    """Bytes of the archive that would be uploaded.

    Raises:
        ClusterError: a package is missing, or the archive is larger than Ray takes.
    """
    files = {path: path.stat().st_size for name in NEEDED for path in _files(root / name)}
    total = sum(files.values()) + PER_FILE_BYTES * len(files)
    if total > limit:
        largest = max(files, key=lambda path: files[path])
        raise ClusterError(
            f"{root}: {total / 2**20:.0f} MiB would be uploaded, Ray's job server takes {limit / 2**20:.0f}; the largest file is "
            f"{largest.relative_to(root)} with {files[largest] / 2**20:.0f} MiB; move data out of {' and '.join(NEEDED)}"
        )
    return total


def _files(folder: Path) -> list[Path]:
    if not (folder / "__init__.py").is_file():
        raise ClusterError(
            f"{folder}: is no package; run this from a whole checkout, or set 'upload: false' in a profile where the nodes have it"
        )
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name != "__pycache__"]
        found += [Path(place, name) for name in names if not name.endswith(".pyc")]
    return found
