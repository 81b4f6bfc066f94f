"""``m3d.json``, beside the files of every export: what the set is and how it was made, without a path of this machine.

``import`` reads it, so that an export can be evaluated and compared again. Other readers ignore it.
"""

from collections.abc import Mapping
from typing import Annotated, Any, NotRequired

from pydantic import PositiveInt

from pipeline import storage
from pipeline.config.parsing import from_dict
from pipeline.errors import UserError
from pipeline.exports.portable_set import PortableSet
from pipeline.formats.condensed_reader import ClassEntry
from pipeline.storage.documents import Document, read_document, write_document
from pipeline.storage.fields import Format
from pipeline.storage.settings import PATHS

FILE = "m3d.json"
VERSION = 1
SHARED = ("seed", "data", "kernel", "augment", "encoder", "condense", "evaluate")
"""Sections of a configuration that leave this machine; the others say where and with what the work ran."""


class About(Document):
    """m3d.json."""

    format: Annotated[int, Format(VERSION, VERSION)]
    exported_as: str
    """Name of the format."""
    name: str
    """Name of the data."""
    licence: str | None
    """Licence of the data, if it is known."""
    classes: list[ClassEntry]
    images_per_class: PositiveInt
    """Images of every class in the export."""
    shape: tuple[int, int, int]
    factor: PositiveInt
    """Tiles along a side of an image in the export; 1 if the views were decoded."""
    mean: list[float]
    """Mean of the real images per channel."""
    std: list[float]
    normalised_with: NotRequired[tuple[list[float], list[float]] | None]
    """Mean and standard deviation that the exported images are normalised with; null if they are in [0, 1]."""
    config: NotRequired[dict[str, Any] | None]
    """Settings that the set was made with; null if they are not known."""
    versions: NotRequired[dict[str, str]]
    commit: NotRequired[str | None]
    condensed_set: NotRequired[str]
    """Checksum of the manifest of the set that was exported."""


def shared_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings of a run that others may see: without paths, buckets, addresses and resources."""
    shared = {key: config[key] for key in SHARED if key in config}
    if isinstance(shared.get("data"), Mapping):
        shared["data"] = {key: value for key, value in shared["data"].items() if key not in PATHS}
    return shared


def write_about(folder: str, about: About) -> None:
    """Writes m3d.json into the folder of an export; it comes last and marks the export as complete."""
    write_document(storage.join(folder, FILE), about)


def read_about(folder: str) -> About | None:
    """Returns what m3d.json in a folder says; None if there is none.

    Raises:
        UserError: it is damaged, or says what cannot be.
    """
    path = storage.join(folder, FILE)
    try:
        about = read_document(About, path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    channels, count = about["shape"][0], len(about["classes"])
    labels = [entry["label"] for entry in about["classes"]]
    pairs = [(about["mean"], about["std"]), *filter(None, [about.get("normalised_with")])]
    moments = all(len(mean) == len(std) == channels and all(each > 0 for each in std) for mean, std in pairs)
    if not count or labels != list(range(count)) or not moments or about["factor"] > 16:
        raise UserError(f"{path}: is damaged: its classes, moments or factor cannot be right; export the set again")
    if (config := about.get("config")) is not None:
        from_dict(config, origin=path)  # refuses settings that are not allowed
    return about


def known_classes(images: PortableSet) -> list[ClassEntry]:
    """The classes of a set as the document lists them."""
    return [ClassEntry(label=each["label"], name=each["name"], wnid=each["wnid"]) for each in images.classes]
