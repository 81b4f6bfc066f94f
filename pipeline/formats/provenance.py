"""Where a result comes from: the data that were read, and the versions and commit that computed it."""

import platform
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pydantic import NonNegativeInt

from pipeline.config.run_config import Data, RunConfig
from pipeline.config.storage import Storage
from pipeline.storage.documents import Document
from pipeline.storage.settings import PATHS

PACKAGES = ("m3d-condense", "torch", "torchvision", "ray", "pyarrow", "numpy")
"""Packages whose versions are recorded."""

KNOWN_SETS = {
    "MNIST": (10, 60_000, 10_000),
    "FashionMNIST": (10, 60_000, 10_000),
    "SVHN": (10, 73_257, 26_032),
    "CIFAR10": (10, 50_000, 10_000),
    "CIFAR100": (100, 50_000, 10_000),
}
"""Classes, training and test images of the data sets that presets name."""


class DataOrigin(Document):
    """The data that a condensed set was made from, as its manifest describes them."""

    name: str
    """``data.name``, else ``data.subset``, else the kind of the source."""
    licence: str | None
    source: str
    """Kind of the source, or format of the file that was imported."""
    images: dict[str, NonNegativeInt]
    """Number of images that were read, by split; empty if nobody knows."""


def origin_of(data: Data, classes: int, images: Mapping[str, int]) -> DataOrigin:
    """Returns the origin of data that were read.

    Args:
        data: settings of the source.
        classes: number of classes that were read.
        images: number of images that were read, by split.
    """
    name = named(data, classes, images) or data.subset or data.source
    return {"name": name, "licence": data.licence, "source": data.source, "images": dict(images)}


def named(data: Data, classes: int, images: Mapping[str, int]) -> str | None:
    """Returns ``data.name``, or None if a preset's data set is named but other data were read. Arguments as for ``origin_of``."""
    if data.source == "torchvision" or data.name not in KNOWN_SETS:
        return data.name
    return data.name if (classes, images.get("train"), images.get("test")) == KNOWN_SETS[data.name] else None


def without_places(config: RunConfig, name: str | None) -> RunConfig:
    """Returns a configuration as it is given to others: without paths, addresses and buckets, and with another ``data.name``."""
    data = replace(config.data, name=name, **dict.fromkeys(PATHS))
    return replace(config, data=data, storage=Storage(), resources=replace(config.resources, address=None))


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
