"""``import``: reads a file of another tool or project, and stores it as shards with a manifest that says where it came from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from m3d import moments as moments_of
from pipeline import storage
from pipeline.config.parsing import from_dict
from pipeline.errors import UserError, nearest, repeated
from pipeline.exports.about import About, read_about, shared_settings
from pipeline.exports.export_format import ExportFormat
from pipeline.exports.incoming import Incoming, Known, Moments
from pipeline.exports.portable_set import PortableSet, sorted_by_class
from pipeline.exports.published import moments_for
from pipeline.exports.registry import FORMATS, export_format
from pipeline.formats.condensed_reader import ClassEntry, condensed_folder, read_manifest
from pipeline.formats.condensed_writer import write_set
from pipeline.formats.peers.argument import FACTORS
from pipeline.formats.png import eight_bit
from pipeline.formats.run_folder import RunFolder
from pipeline.observability.progress import say
from pipeline.storage.safe_json import parse_json


@dataclass(frozen=True, kw_only=True)
class ImportRequest:
    """What is asked for."""

    format: str
    """Name of the format."""
    like: str | None = None
    """A run or a condensed set of the same data, for files that do not say their classes and settings."""
    factor: int | None = None
    """Tiles along a side of a stored image; None for what the file says, else 1."""
    mean: str | None = None
    """Mean that the images are normalised with, such as ``0.5/0.5/0.5``."""
    std: str | None = None
    """Standard deviation that the images are normalised with."""

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise UserError(f"--from {self.format}: allowed: {', '.join(FORMATS)}{nearest(self.format, FORMATS)}")
        if self.factor is not None and self.factor not in FACTORS:
            raise UserError(f"--factor {self.factor}: allowed: an integer from 1 to {FACTORS[-1]}")
        if (self.mean is None) != (self.std is None):
            raise UserError("--mean, --std: give both or none")

    def moments(self) -> Moments | None:
        """The moments of the command line. Raises UserError if they are no numbers."""
        if self.mean is None or self.std is None:
            return None
        mean, std = _numbers("--mean", self.mean), _numbers("--std", self.std)
        if len(mean) != len(std) or any(value <= 0 for value in std):
            raise UserError(
                f"--mean {self.mean} --std {self.std}: give a number per channel; those of --std are above 0"
            )
        return mean, std


@dataclass(frozen=True, kw_only=True)
class _Facts:
    """What is known of a set besides its file."""

    classes: tuple[ClassEntry, ...] | None = None
    factor: int | None = None
    moments: Moments | None = None
    """Of the real images."""
    normalised_with: Moments | None = None
    config: Mapping[str, Any] | None = None
    data: Mapping[str, Any] | None = None


def run_import(path: str, request: ImportRequest, out: str) -> None:
    """Stores a file as a condensed set in a new folder.

    Args:
        path: a file or a folder of the format, local or by URL.
        request: format and what is known of the file.
        out: the folder, which must not exist or be empty.

    Raises:
        UserError: the file cannot be read or is no condensed set, or the folder is not empty.
    """
    path = storage.absolute(path)
    if not storage.exists(path):
        raise UserError(f"{path}: does not exist")
    folder = path if storage.is_folder(path) else path.rpartition("/")[0]
    about = read_about(folder)
    about = about if about is not None and about["exported_as"] == request.format else None
    facts = _facts(about, request)
    form = export_format(request.format)
    known = Known(
        classes=None if facts.classes is None else len(facts.classes),
        moments=request.moments() or facts.normalised_with or _published(form, facts),
    )
    incoming = form.read(path, known)
    images = _portable(incoming, facts, request, path)
    notes = list(incoming.notes)
    if incoming.moments is None and facts.moments is None and request.mean is None:
        notes.append("mean and std are those of its own images, since those of the real images are not known")
    pixels = storage.sha256(images.images.numpy().tobytes())
    imported = {"format": request.format, "file": path.rsplit("/", 1)[-1], "pixels": pixels, "notes": notes}
    extra: dict[str, Any] = {"data": _data(facts, request), "imported": imported}
    if facts.config is not None:
        extra["config"] = dict(facts.config)
    target = storage.absolute(out)
    write_set(target, images.condensed(), images.classes, extra)
    for note in notes:
        say(f"{path}: {note}")
    channels, height, width = images.shape
    say(
        f"imported {len(images.images)} images of {len(images.classes)} classes, {channels}x{height}x{width}, factor {images.factor}, "
        f"to {target}"
    )


def _facts(about: About | None, request: ImportRequest) -> _Facts:
    """What m3d.json says, else what the set of --like says."""
    if request.like is not None:
        return _facts_like(request.like)
    if about is None:
        return _Facts()
    normalised = about.get("normalised_with")
    return _Facts(
        classes=tuple(about["classes"]),
        factor=about["factor"],
        moments=(tuple(about["mean"]), tuple(about["std"])),
        normalised_with=None if normalised is None else (tuple(normalised[0]), tuple(normalised[1])),
        config=shared_settings(about.get("config") or {}) or None,
        data={"name": about["name"], "licence": about["licence"]},
    )


def _facts_like(path: str) -> _Facts:
    """Classes, moments and settings of a set of the same data; the factor is the file's own."""
    manifest = read_manifest(condensed_folder(path))
    record = RunFolder.at(path).read_record()
    config = record["config"] if record is not None else manifest.get("config")
    return _Facts(
        classes=tuple(manifest["classes"]),
        moments=(tuple(manifest["mean"]), tuple(manifest["std"])),
        config=shared_settings(config) if isinstance(config, Mapping) else None,
        data=manifest.get("data"),
    )


def _published(form: ExportFormat, facts: _Facts) -> Moments | None:
    """What a file of this format is normalised with if it is of the same data as a known set."""
    if facts.moments is None or facts.config is None:
        return facts.moments
    return moments_for(form, from_dict(facts.config, origin="--like").data, facts.moments)


def _portable(incoming: Incoming, facts: _Facts, request: ImportRequest, path: str) -> PortableSet:
    classes = _classes(incoming, facts, path)
    images = sorted_by_class(incoming, len(classes), path)
    factor = request.factor or facts.factor or incoming.factor or 1
    side = images.shape[-1]
    if factor not in FACTORS or -(-side // factor) * (factor - 1) >= side:
        raise UserError(f"{path}: factor {factor} does not fit images of {side} px; add --factor N")
    mean, std = (
        facts.moments or incoming.moments or request.moments() or moments_of(torch.from_numpy(eight_bit(images)))
    )
    if len(mean) != images.shape[1] or len(std) != images.shape[1]:
        raise UserError(
            f"{path}: holds images of {images.shape[1]} channels, mean and std are of {len(mean)} and {len(std)}"
        )
    return PortableSet(images=images, classes=classes, factor=factor, mean=mean, std=std)


def _classes(incoming: Incoming, facts: _Facts, path: str) -> tuple[ClassEntry, ...]:
    """The classes that are known of the set, else those of the file, else the labels as text."""
    found = incoming.names
    if facts.classes is not None:
        if found is not None and len(found) != len(facts.classes):
            raise UserError(f"{path}: has {len(found)} classes, {len(facts.classes)} were expected")
        return facts.classes
    count = int(incoming.labels.max()) + 1 if len(incoming.labels) else 0
    if found is None or len(found) < count or repeated(found):
        found = tuple(map(str, range(count)))
    return tuple(ClassEntry(label=label, name=name, wnid="") for label, name in enumerate(found))


def _data(facts: _Facts, request: ImportRequest) -> dict[str, Any]:
    """Where the set comes from, as a manifest says it."""
    known = facts.data or {}
    name, licence = known.get("name"), known.get("licence")
    return {
        "name": name if isinstance(name, str) and name else "unnamed",
        "licence": licence if isinstance(licence, str) else None,
        "source": request.format,
        "images": {},
    }


def _numbers(option: str, text: str) -> tuple[float, ...]:
    try:
        values: Sequence[Any] = parse_json(f"[{text.replace('/', ',')}]".encode())
    except ValueError:
        values = ()
    if not values or not all(isinstance(value, int | float) and abs(value) < 1e6 for value in values):
        raise UserError(f"{option} {text}: is not a number per channel; write 0.5/0.5/0.5")
    return tuple(float(value) for value in values)
