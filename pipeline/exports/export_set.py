"""``export``: writes a condensed set in the format of another tool or project."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from pipeline import storage
from pipeline.config.parsing import from_dict
from pipeline.config.run_config import Data
from pipeline.errors import UserError, nearest
from pipeline.evaluate.results import read_rows
from pipeline.evaluate.rows import EvaluationRow
from pipeline.exports.about import VERSION, About, known_classes, shared_settings, write_about
from pipeline.exports.card import CardFacts, card
from pipeline.exports.export_format import Outgoing, Views
from pipeline.exports.incoming import Moments
from pipeline.exports.origin import PROGRAM, command_of, says_making
from pipeline.exports.portable_set import PortableSet, portable
from pipeline.exports.published import moments_for
from pipeline.exports.registry import FORMATS, export_format
from pipeline.exports.rounding import Rounding, rounding_of
from pipeline.formats.condensed_reader import CondensedManifest, condensed_folder, load_condensed, read_manifest
from pipeline.formats.run_folder import RunFolder
from pipeline.observability.progress import say
from pipeline.storage.local.new_folder import new_folder, require_new

VIEWS = ("decoded", "stored")
TEXT = 200
"""Most characters of a name or a licence."""


@dataclass(frozen=True, kw_only=True)
class ExportRequest:
    """What is asked for."""

    format: str
    """Name of the format."""
    views: str | None = None
    """``decoded`` or ``stored``; None for what the format's readers expect."""
    name: str | None = None
    """Name of the data; None for that of the set."""
    licence: str | None = None
    """Licence of the data; None for that of the set."""

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise UserError(f"--to {self.format}: allowed: {', '.join(FORMATS)}{nearest(self.format, FORMATS)}")
        if self.views is not None and self.views not in VIEWS:
            raise UserError(f"--views {self.views}: allowed: {', '.join(VIEWS)}")
        for option in ("name", "licence"):
            text = getattr(self, option)
            if text is not None and not (text.strip() and text.isprintable() and len(text) <= TEXT):
                raise UserError(f"--{option}: given {text!r}; allowed: printable text of at most {TEXT} characters")


@dataclass(frozen=True, kw_only=True)
class _SourceSet:
    """The set that is exported, and what its folder knows of it."""

    folder: str
    manifest: CondensedManifest
    run: RunFolder
    config: Mapping[str, Any] | None
    commit: str | None
    rows: Sequence[EvaluationRow]


def run_export(path: str, request: ExportRequest, out: str) -> None:
    """Writes a set into a new folder.

    Args:
        path: folder of a run or of a condensed set, local or by URL.
        request: format and options.
        out: the folder, which must not exist or be empty.

    Raises:
        UserError: there is no finished set, or the folder is not empty or cannot be written.
    """
    target = storage.absolute(out)
    require_new(target)
    source, form = _source(path), export_format(request.format)
    made_with = source.config if says_making(source.config) else None
    views = cast(Views, request.views or form.views)
    dataset = load_condensed(source.folder)
    images = portable(dataset, source.manifest["classes"], decode=views == "decoded")
    moments = moments_for(form, _data(source), (images.mean, images.std))
    rounding = rounding_of(images.images, form.pixels, moments)
    about = _about(request, images, source, moments)
    facts = CardFacts(
        about=about,
        command=None if made_with is None else command_of(made_with),
        stored=source.manifest["images_per_class"],
        source=_origin(source).get("source") or "unknown",
        factor=source.manifest["factor"],
        rounding=rounding.sentence(),
        rows=source.rows,
    )
    outgoing = Outgoing(
        images=images,
        name=about["name"],
        normalised_with=moments,
        encoder=str((made_with or {}).get("encoder", {}).get("name", "")),
        accuracies=_fractions(source.rows),
        card=card(facts),
    )
    with new_folder(target) as folder:
        form.write(folder, outgoing)
        write_about(folder, about)
    kind = "views" if views == "decoded" and source.manifest["factor"] > 1 else "images"
    say(f"exported {len(images.images)} {kind} of {len(images.classes)} classes as {request.format} to {target}")
    if moments is not None:
        say(f"normalised with mean {_joined(moments[0])} and std {_joined(moments[1])}; test images need the same")
    _say_rounding(rounding, request, out, source)


def _source(path: str) -> _SourceSet:
    folder = condensed_folder(path)
    manifest = read_manifest(folder)
    parent, _, name = folder.rpartition("/")
    run = (
        RunFolder(parent)
        if name == "condensed" and storage.exists(RunFolder(parent).config_json)
        else RunFolder(folder)
    )
    record = run.read_record()
    stored = manifest.get("config")
    config = record["config"] if record is not None else stored if isinstance(stored, Mapping) and stored else None
    rows = [
        row
        for row in read_rows(run)
        if row["set"] != "condensed" or row.get("condensed_set", manifest["checksum"]) == manifest["checksum"]
    ]
    commit = record.get("commit") if record is not None else None
    return _SourceSet(folder=folder, manifest=manifest, run=run, config=config, commit=commit, rows=rows)


def _data(source: _SourceSet) -> Data:
    return Data() if source.config is None else from_dict(dict(source.config), origin=source.folder).data


def _origin(source: _SourceSet) -> Mapping[str, str]:
    """Texts that the manifest has about the data."""
    data = source.manifest.get("data")
    return {key: value for key, value in data.items() if isinstance(value, str)} if isinstance(data, Mapping) else {}


def _about(request: ExportRequest, images: PortableSet, source: _SourceSet, moments: Moments | None) -> About:
    origin = _origin(source)
    name = request.name or origin.get("name") or _name_of(_data(source), source)
    licence = request.licence or origin.get("licence")
    about: About = {
        "format": VERSION,
        "exported_as": request.format,
        "name": str(name)[:TEXT],
        "licence": str(licence)[:TEXT] if licence else None,
        "classes": known_classes(images),
        "images_per_class": images.per_class,
        "shape": images.shape,
        "factor": images.factor,
        "mean": list(images.mean),
        "std": list(images.std),
        "normalised_with": None if moments is None else (list(moments[0]), list(moments[1])),
        "config": None if source.config is None else shared_settings(source.config),
        "versions": {str(k): str(v) for k, v in (source.manifest.get("versions") or {}).items()},
        "commit": source.commit,
        "condensed_set": source.manifest["checksum"],
    }
    return about


def _name_of(data: Data, source: _SourceSet) -> str:
    """A name for a set of an older version, which says no name of its own."""
    if source.config is None:
        return "unnamed"
    return data.subset or (data.name if data.source == "torchvision" else None) or data.source


def _fractions(rows: Sequence[EvaluationRow]) -> dict[str, list[float]]:
    """Accuracies of the set by network, those of the first row of each."""
    found: dict[str, list[float]] = {}
    for row in rows:
        if row["set"] == "condensed":
            found.setdefault(row["architecture"], [float(each) / 100 for each in row["accuracies"]])
    return found


def _say_rounding(rounding: Rounding, request: ExportRequest, out: str, source: _SourceSet) -> None:
    say(rounding.sentence())
    if not rounding.is_lossy:
        return
    home, export = shlex.quote(source.run.path), shlex.quote(out)
    again = shlex.quote(f"{out.rstrip('/')}-imported")
    compare = f"{PROGRAM} compare {home} {again}"
    if not storage.exists(source.run.config_json):
        compare += " --preset NAME --data DATA --out comparison"
    say("to measure the accuracy of both:")
    say(f"  {PROGRAM} import {export} --from {request.format} --out {again}")
    say(f"  {compare}")


def _joined(values: Sequence[float]) -> str:
    return "/".join(f"{value:.4f}" for value in values)
