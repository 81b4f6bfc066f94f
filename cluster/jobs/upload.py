"""The upload of a job: the packages that a node runs, and nothing else of this project."""

import os
from pathlib import Path

from cluster.errors import ClusterError

NEEDED = ("m3d", "pipeline")
"""Packages that a job needs."""
EXCLUDES = ("/*", "!/.", *(f"!/{name}" for name in NEEDED), "__pycache__", "*.pyc")
"""Patterns as in .gitignore: everything is excluded except the folder itself and the packages, without Python's caches."""
LIMIT_BYTES = 100 * 2**20
"""Largest archive that Ray's job server accepts; it refuses a larger one only after the upload."""
PER_FILE_BYTES = 512
"""Upper bound of a file's name and entry in the archive, which is not compressed."""


def project() -> Path:
    """The folder that contains the packages: a checkout, or where they are installed."""
    return Path(__file__).resolve().parents[2]


def check_size(root: Path, limit: int = LIMIT_BYTES) -> int:
    """Upper bound of the archive's size in bytes.

    Raises:
        ClusterError: a package is missing, or the archive is larger than Ray accepts.
    """
    files = {path: path.stat().st_size for name in NEEDED for path in _files(root / name)}
    total = sum(files.values()) + PER_FILE_BYTES * len(files)
    if total > limit:
        largest = max(files, key=lambda path: files[path])
        raise ClusterError(
            f"{root}: {total / 2**20:.0f} MiB would be uploaded, but Ray's job server accepts {limit / 2**20:.0f}; the largest "
            f"file is {largest.relative_to(root)} with {files[largest] / 2**20:.0f} MiB; move data out of {' and '.join(NEEDED)}"
        )
    return total


def _files(folder: Path) -> list[Path]:
    if not (folder / "__init__.py").is_file():
        raise ClusterError(
            f"{folder}: is not a package; run this from a complete checkout, or set 'upload: false' in a profile if the nodes have "
            "the packages"
        )
    files = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name != "__pycache__"]
        files += [Path(place, name) for name in names if not name.endswith(".pyc")]
    return files
