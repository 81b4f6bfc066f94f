"""``import``: reads a file of another tool or project, and stores it as shards with a manifest that says where it came from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from m3d import moments as moments_of
from pipeline import storage
from pipeline.config.parsing import from_dict
from pipeline.errors import UserError, listed, nearest, printable, repeated
from pipeline.exports.about import About, read_about, shared_settings
from pipeline.exports.export_format import ExportFormat
from pipeline.exports.incoming import Incoming, Known, Moments
from pipeline.exports.origin import settings_of_data
from pipeline.exports.portable_set import PortableSet, sorted_by_class
from pipeline.exports.published import moments_for
from pipeline.exports.registry import FORMATS, export_format
from pipeline.formats.condensed_reader import ClassEntry, condensed_folder, read_manifest
from pipeline.formats.condensed_writer import write_set
from pipeline.formats.peers.argument import FACTORS
from pipeline.formats.peers.reader import MOST_CLASSES
from pipeline.formats.png import eight_bit
from pipeline.formats.run_folder import RunFolder
from pipeline.observability.progress import say
from pipeline.storage.local.new_folder import require_new
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
    path, target = storage.absolute(path), storage.absolute(out)
    require_new(target)
    if not storage.exists(path):
        raise UserError(f"{path}: does not exist")
    folder = path if storage.is_folder(path) else path.rpartition("/")[0]
    about = read_about(folder)
    about = about if about is not None and about["exported_as"] == request.format else None
    facts = _facts(about, request)
    form, given = export_format(request.format), request.moments()
    known = Known(
        classes=None if facts.classes is None else len(facts.classes),
        moments=given or facts.normalised_with or _published(form, facts),
    )
    if given is not None and (form.moments is None or facts.moments is None):
        facts = replace(facts, moments=given)  # of the real images: what a file is normalised with need not be that
    incoming = form.read(path, known)
    images = _portable(incoming, facts, request, path)
    notes = [*incoming.notes, *_by_position(incoming, facts, request)]
    if incoming.moments is None and facts.moments is None:
        notes.append("mean and std are those of its own images, since those of the real images are not known")
    pixels = storage.sha256(images.images.numpy().tobytes())
    imported = {"format": request.format, "file": path.rsplit("/", 1)[-1], "pixels": pixels, "notes": notes}
    extra: dict[str, Any] = {"data": _data(facts, request), "imported": imported}
    if facts.config is not None:
        own = settings_of_data(facts.config, images.per_class, images.factor)
        extra["config"] = dict(facts.config) if request.like is None else own
    write_set(target, images.condensed(), images.classes, extra)
    for note in notes:
        say(f"{path}: {note}")
    channels, height, width = images.shape
    say(
        f"imported {len(images.images)} images of {len(images.classes)} classes, {channels}x{height}x{width}, factor {images.factor}, "
        f"to {target}"
    )


def _facts(about: About | None, request: ImportRequest) -> _Facts:
    """What m3d.json says. The set of --like takes precedence, but for what only m3d.json knows of the file."""
    normalised = None if about is None else about.get("normalised_with")
    if request.like is not None:
        facts = _facts_like(request.like)
        return facts if about is None else replace(facts, factor=about["factor"], normalised_with=_pair(normalised))
    if about is None:
        return _Facts()
    return _Facts(
        classes=tuple(about["classes"]),
        factor=about["factor"],
        moments=(tuple(about["mean"]), tuple(about["std"])),
        normalised_with=_pair(normalised),
        config=shared_settings(about.get("config") or {}) or None,
        data={"name": about["name"], "licence": about["licence"]},
    )


def _pair(moments: tuple[list[float], list[float]] | None) -> Moments | None:
    return None if moments is None else (tuple(moments[0]), tuple(moments[1]))


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
    images = _in_order(sorted_by_class(incoming, len(classes), path), incoming.names, classes)
    factor = request.factor or facts.factor or incoming.factor or 1
    side = images.shape[-1]
    if factor not in FACTORS or -(-side // factor) * (factor - 1) >= side:
        raise UserError(f"{path}: factor {factor} does not fit images of {side} px; add --factor N")
    mean, std = facts.moments or incoming.moments or moments_of(torch.from_numpy(eight_bit(images)))
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
    if not len(incoming.labels):
        raise UserError(f"{path}: holds no images")
    count = int(incoming.labels.max()) + 1
    if count > MOST_CLASSES:
        raise UserError(f"{path}: has the label {count - 1}; allowed: 0 to {MOST_CLASSES - 1}")
    if found is None or len(found) < count or repeated(found):
        found = tuple(map(str, range(count)))
    return tuple(ClassEntry(label=label, name=name, wnid="") for label, name in enumerate(found))


def _places(found: Sequence[str] | None, classes: Sequence[ClassEntry]) -> list[int] | None:
    """Where the file has each known class, by its name or WordNet id; None unless the file names exactly these classes."""
    places = {name: place for place, name in enumerate(found or ())}
    for known in ([entry["name"] for entry in classes], [entry["wnid"] for entry in classes]):
        if len(known) == len(found or ()) and set(known) == set(places) and not repeated(known):
            return [places[name] for name in known]
    return None


def _in_order(images: Tensor, found: Sequence[str] | None, classes: Sequence[ClassEntry]) -> Tensor:
    """Images class by class in the order of the known classes, whatever the order of the file's."""
    places = _places(found, classes)
    if places is None or places == sorted(places):
        return images
    return images.view(len(classes), -1, *images.shape[1:])[places].flatten(0, 1)


def _by_position(incoming: Incoming, facts: _Facts, request: ImportRequest) -> list[str]:
    """A note if the classes of a file were identified with those of --like by their order alone."""
    found, classes = incoming.names, facts.classes
    if request.like is None or found is None or classes is None or _places(found, classes) is not None:
        return []
    if all(name[:1].isdigit() for name in found):  # labels, as in the folders of rethinkdc
        return []
    names = [entry["name"] for entry in classes]
    return [printable(f"its classes {listed(found, 3)} were identified by their order with {listed(names, 3)}")]


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
