"""Collects the contents of report.html, and writes the files of the report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline import storage
from pipeline.condense.manifest import identity
from pipeline.config.parsing import from_dict
from pipeline.config.run_config import RunConfig
from pipeline.data.prepared_dataset import PreparedDataset
from pipeline.errors import UserError
from pipeline.evaluate.results import read_rows
from pipeline.formats.condensed_reader import CondensedDataset, load_condensed
from pipeline.formats.provenance import without_places
from pipeline.formats.run_folder import RunFolder
from pipeline.formats.run_record import RunRecord
from pipeline.formats.snapshots import read_snapshots
from pipeline.observability.pages import render
from pipeline.observability.progress import say
from pipeline.workflow.report.accuracy import Accuracies, accuracies
from pipeline.workflow.report.confusion import ConfusionSection, confusion_section
from pipeline.workflow.report.curves import Plot, curves
from pipeline.workflow.report.evolution import evolution
from pipeline.workflow.report.feature_space import FeatureSpace, feature_space
from pipeline.workflow.report.gallery import CARDS, Gallery, gallery, why_no_snapshots
from pipeline.workflow.report.grid import grid_image, png
from pipeline.workflow.report.real_images import RealSample, real_sample
from pipeline.workflow.report.run_log import history
from pipeline.workflow.report.settings import Command, Section, commands, name_of, sections

NO_SHARDS = "Real images are not shown: the class shards of the run were not found."


@dataclass(frozen=True, kw_only=True)
class Report:
    """Contents of report.html, named as its template names them."""

    name: str
    """Name of the data."""
    config: RunConfig
    record: RunRecord
    accuracies: Accuracies | None
    """None if nothing is evaluated."""
    confusion: ConfusionSection | None
    gallery: Gallery
    total: int
    """Classes of the set."""
    stored: int
    """Stored images per class."""
    shape: str
    """Channels, height and width of a stored image, such as ``3x32x32``."""
    notes: Sequence[str]
    """What the images lack, and why."""
    has_evolution: bool
    space: FeatureSpace | None
    no_space: str
    """Why there is no picture of the features."""
    has_epochs: bool
    """Whether the accuracy was measured during the training of networks."""
    plots: Sequence[Plot]
    history: Sequence[tuple[str, str]]
    commands: Sequence[Command]
    sections: Sequence[Section]
    versions: Mapping[str, str]
    commits: Sequence[str]


def report(
    folder: RunFolder, dataset: PreparedDataset | None = None, *, config: RunConfig | None = None, missing: str = ""
) -> None:
    """Writes grid.png, evolution.webp and report.html of a run whose condensed set is finished.

    Args:
        folder: of the run.
        dataset: class shards with the real images. Defaults to none: the page has no real images then.
        config: settings of the section ``report``. Defaults to those of the run.
        missing: why there are no class shards.

    Raises:
        UserError: the folder contains no run, or its condensed set is not finished.
    """
    record = folder.read_record()
    if record is None:
        raise UserError(
            f"{folder}: contains no run (no config.json); give the folder that was --out of `run` or `condense`"
        )
    stored = from_dict(record["config"], origin=folder.config_json)  # with settings that older versions did not write
    condensed, origin = load_condensed(folder.path, decode=False, normalise=False), folder.read_manifest().get("data")
    names, groups = condensed.class_names, record["resolved"]["placement"]["groups"]
    storage.write_bytes(folder.grid, png(grid_image(condensed.stored, names)))
    snapshots = read_snapshots(folder.snapshots, groups, identity(record), classes=CARDS)
    animation = evolution(condensed.stored, snapshots, stored.condense.iterations)
    if animation is not None:
        storage.write_bytes(folder.evolution, animation)
    real = real_sample(dataset, missing or NO_SHARDS, classes=names, seed=stored.seed)
    rows = read_rows(folder)
    confusion = confusion_section(folder, rows, names)
    pictures = gallery(
        condensed.stored, names, snapshots, real.by_label, confusion.per_class if confusion is not None else ()
    )
    space, no_space = _space((config or stored).report.features, stored, folder, dataset, condensed, real)
    contents = Report(
        name=origin["name"] if origin else name_of(stored.data),
        config=stored,
        record=record,
        accuracies=accuracies(rows, len(names)) if rows else None,
        confusion=confusion,
        gallery=pictures,
        total=len(names),
        stored=condensed.stored.images_KSCHW.shape[1],
        shape=" x ".join(map(str, condensed.stored.images_KSCHW.shape[2:])),
        notes=_notes(pictures, condensed, real, stored),
        has_evolution=animation is not None,
        space=space,
        no_space=no_space,
        has_epochs=any("curves" in row.get("best_epoch_compatibility", {}) for row in rows),
        plots=curves(folder, rows),
        history=history(folder, record),
        commands=commands(folder),
        sections=sections(without_places(stored, origin["name"] if origin else stored.data.name)),
        versions=record["versions"],
        commits=(record.get("commit") or "").split(", ") if record.get("commit") else [],
    )
    page = render(__package__ or "", "report.html.jinja", **vars(contents))
    storage.write_bytes(folder.report, page.encode())
    say(f"report: {folder.report}")


def is_reported(folder: RunFolder) -> bool:
    """Whether grid.png and report.html exist."""
    return storage.exists(folder.grid) and storage.exists(folder.report)


def _space(
    wanted: bool,
    config: RunConfig,
    folder: RunFolder,
    dataset: PreparedDataset | None,
    condensed: CondensedDataset,
    real: RealSample,
) -> tuple[FeatureSpace | None, str]:
    """The picture of the features, or why there is none."""
    if not wanted:
        return None, "The picture was left out (report.features is false)."
    if dataset is None or not real.by_label:
        return None, real.note
    space = feature_space(config, folder, dataset, condensed.stored, real.by_label)
    return space, "" if space is not None else "There are too few images for a picture."


def _notes(shown: Gallery, condensed: CondensedDataset, real: RealSample, config: RunConfig) -> list[str]:
    """What the images on the page lack, and why."""
    total, stored = condensed.stored.images_KSCHW.shape[:2]
    notes = []
    if len(shown.cards) < total:
        notes.append(f"The page has the first {len(shown.cards)} of {total} classes; grid.png has more.")
    if shown.images < stored:
        notes.append(f"Of {stored} images of a class, the first {shown.images} are shown.")
    if not shown.iterations:
        notes.append(why_no_snapshots(config.report.snapshots, config.condense.iterations))
    if real.note:
        notes.append(real.note)
    return notes
