"""The compare stage: several condensed sets under one protocol and the same seeds, with paired differences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import ray
import torch
from rich.table import Table
from torch import Tensor

from pipeline import storage
from pipeline.config.run_config import RunConfig
from pipeline.data.prepared_dataset import PreparedDataset
from pipeline.errors import UserError
from pipeline.evaluate.intervals import paired
from pipeline.evaluate.results import NetworkScore, row_of
from pipeline.evaluate.resume import PartialEvaluation
from pipeline.evaluate.rows import ComparisonRow, EvaluationRow, request_of
from pipeline.evaluate.scoring import IncompleteRow, Scoring, complete_rows
from pipeline.evaluate.tables import NONE, ONE_NETWORK, add_columns, described_protocol, deviation, explain, span
from pipeline.evaluate.training_sets import TrainingSet
from pipeline.formats import peers
from pipeline.formats.condensed_reader import CondensedManifest, condensed_folder, load_condensed, read_manifest
from pipeline.formats.confusion_matrix import sweep_matrices
from pipeline.formats.run_folder import RunFolder
from pipeline.observability.progress import console, say
from pipeline.runtime import session

FILE = "comparison.json"
MATRICES = "comparison"
"""Folder of the confusion matrices that are too large for the document."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A condensed set that is compared."""

    name: str
    """Name of the set on the command line."""
    images: TrainingSet
    images_per_class: float
    """Stored images of every class."""
    note: str = ""


def compare(
    names: Sequence[str], config: RunConfig, dataset: PreparedDataset, folder: RunFolder | None = None
) -> list[ComparisonRow]:
    """Trains networks on every set and prints one table of accuracies and differences to the first set.

    Args:
        names: two or more folders of runs or condensed sets, and files as ``peers`` names them.
        config: ``evaluate`` has the protocol, architectures and seeds.
        dataset: class shards with the test images.
        folder: a folder for comparison.json, in which an interrupted comparison is resumed. Defaults to none.

    Returns:
        A row per architecture and set.

    Raises:
        UserError: soft labels are asked for, or a set cannot be compared on these data.
    """
    if config.evaluate.labels == "soft":
        raise UserError(
            "evaluate.labels: given 'soft', but compare trains with the sets' own labels; add --set evaluate.labels=hard"
        )
    candidates = [load_candidate(name, config, dataset) for name in names]
    for candidate in candidates:
        if candidate.note:
            say(f"{candidate.name}: {candidate.note}")
    session.start(config.resources)
    rows = _rows(candidates, config, dataset, folder)
    if folder is not None:
        storage.write_json(folder.file(FILE), {"compared_with": candidates[0].name, "results": rows})
        sweep_matrices(folder.file(MATRICES), (row["confusion_file"] for row in rows if "confusion_file" in row))
    for number, name in enumerate(_numbers(rows), start=1):
        say(f"set {number}: {name}")
    console().print(table(rows, config.evaluate.on))
    return rows


def load_candidate(name: str, config: RunConfig, dataset: PreparedDataset) -> Candidate:
    """The set that a name on the command line stands for.

    Raises:
        UserError: it cannot be read, has other classes or another size than the data, or was made from images that it
            would be scored on.
    """
    channels, height, width = dataset.manifest["shape"]
    shape = (channels, height, width)
    class_names = [entry["name"] for entry in dataset.classes]
    if peers.is_peer(name):
        return _peer_candidate(name, config, dataset, shape)
    folder = condensed_folder(name)
    manifest, condensed = read_manifest(folder), load_condensed(folder)
    _refuse_seen(name, manifest, config, dataset)
    if tuple(manifest["shape"]) != shape or condensed.class_names != class_names:
        raise UserError(
            f"{name}: has {len(condensed.class_names)} classes of {list(manifest['shape'])}, the data has "
            f"{len(class_names)} of {list(shape)}, or the class names differ; compare sets of the same data"
        )
    images = TrainingSet(images=condensed.images, labels=condensed.labels, mean=condensed.mean, std=condensed.std)
    return Candidate(name=name, images=images, images_per_class=float(manifest["images_per_class"]))


def _peer_candidate(name: str, config: RunConfig, dataset: PreparedDataset, shape: tuple[int, int, int]) -> Candidate:
    """The set in a file of another project, which does not record its split."""
    file = peers.parse(name)
    normalised = file.layout in peers.NORMALISED
    moments = peers.published_moments(file.layout, config.data) if normalised else dataset.moments
    peer = peers.read(file, shape=shape, classes=len(dataset.classes), moments=moments)
    images = TrainingSet(images=peer.images, labels=peer.labels, mean=peer.mean, std=peer.std)
    unknown_split = "it may have been made from images that it is scored on" if _split_keys(config, dataset) else ""
    note = "; ".join(filter(None, (peer.note, unknown_split)))
    return Candidate(name=name, images=images, images_per_class=peer.stored / len(dataset.classes), note=note)


def _refuse_seen(name: str, manifest: CondensedManifest, config: RunConfig, dataset: PreparedDataset) -> None:
    """Raises UserError if the networks would be scored on images that the set's own run did not hold out."""
    keys, stored = _split_keys(config, dataset), manifest.get("config", {}).get("data", {})
    own, requested = ({key: data.get(key) for key in keys} for data in (stored, vars(config.data)))
    if own != requested:
        raise UserError(
            f"{name}: was made with {_listed(own)}, but the networks would be scored with {_listed(requested)}, so on "
            "images that it may have been made from; compare sets of one split"
        )


def _split_keys(config: RunConfig, dataset: PreparedDataset) -> list[str]:
    """Settings of data.* that determine the scored images; none if the data has a test split of its own."""
    keys = ["test_fraction"] if dataset.manifest["test_cut_from_train"] else []
    keys += ["validation_fraction"] if config.evaluate.on == "validation" else []
    return [*keys, "split_seed"] if keys else []


def _listed(split: Mapping[str, object]) -> str:
    return ", ".join(f"data.{key}={value}" for key, value in split.items())


def _rows(
    candidates: Sequence[Candidate], config: RunConfig, dataset: PreparedDataset, folder: RunFolder | None
) -> list[ComparisonRow]:
    """A row per architecture and set, with the difference to the architecture's first set."""
    incomplete = _incomplete_rows(candidates, config, dataset)
    networks = len(incomplete) * config.evaluate.seeds
    scoring = Scoring(title="compare", config=config, shards=dataset.folder, networks=networks)
    store = PartialEvaluation(folder) if folder else None
    scored: dict[str, dict[int, NetworkScore]] = {}
    for entry, scores in complete_rows(list(incomplete.values()), scoring, store):
        scored[entry.key] = scores
        if store:
            store.add(entry.key, scores)  # they stay, so that the same comparison trains nothing again
    rows: list[ComparisonRow] = []
    for architecture in dict.fromkeys(config.evaluate.architectures):
        first = scored[incomplete[architecture, 0].key]
        for index, candidate in enumerate(candidates):
            entry = incomplete[architecture, index]
            row = row_of(
                entry.request,
                scored[entry.key],
                images_per_class=candidate.images_per_class,
                images=len(candidate.images.labels),
                matrices=folder.file(MATRICES) if folder else None,
            )
            rows.append(_row(candidate, row, scored[entry.key], first if index else None))
    return rows


def _incomplete_rows(
    candidates: Sequence[Candidate], config: RunConfig, dataset: PreparedDataset
) -> dict[tuple[str, int], IncompleteRow]:
    """What is to be trained, by architecture and number of the set."""
    rows = {}
    for index, candidate in enumerate(candidates):
        load = partial(_stored_set, ray.put(candidate.images))  # once, not with every task
        origins = {
            "set": index,
            "images": _checksum(candidate.images),
            "shards": dataset.seal,
            "held_out": [config.data.validation_fraction, config.data.split_seed],
        }
        for architecture in dict.fromkeys(config.evaluate.architectures):
            request = request_of(config, candidate.name, architecture, classes=len(dataset.classes))
            rows[architecture, index] = IncompleteRow(request=request, key=request.score_key(origins), load=load)
    return rows


def _stored_set(reference: ray.ObjectRef, seed: int) -> TrainingSet:
    """The set in Ray's object store, the same for every seed."""
    return ray.get(reference)


def _checksum(images: TrainingSet) -> str:
    parts: list[Tensor] = [images.images, images.labels, torch.tensor([*images.mean, *images.std])]
    return storage.sha256(b"".join(part.contiguous().numpy().tobytes() for part in parts))


def _row(
    candidate: Candidate, row: EvaluationRow, scores: dict[int, NetworkScore], first: dict[int, NetworkScore] | None
) -> ComparisonRow:
    """The row of a set with its difference; ``first`` has the scores of the first set, or is None for that set itself."""
    difference = None if first is None else paired(_accuracies(scores), _accuracies(first))
    return {
        **row,
        "difference": None if difference is None else difference.mean,
        "difference_interval95": None if difference is None else difference.interval,
        "note": candidate.note,
    }


def _accuracies(scores: dict[int, NetworkScore]) -> dict[int, float]:
    return {seed: score.accuracy for seed, score in scores.items()}


def _numbers(rows: Sequence[ComparisonRow]) -> list[str]:
    """Names of the sets in the order of their numbers, from 1."""
    return list(dict.fromkeys(row["set"] for row in rows))


def table(rows: Sequence[ComparisonRow], on: str) -> Table:
    """The rows as a table that fits into 80 columns; sets are numbered, since their paths alone would fill it.

    Args:
        rows: rows of a comparison.
        on: the split that they were tested on.
    """
    protocols = ", ".join(dict.fromkeys(described_protocol(row) for row in rows))
    seeds = max(len(row["seeds"]) for row in rows)
    title = f"{on} accuracy, %, same protocol ({protocols}) and {'seed' if seeds == 1 else f'{seeds} seeds'}"
    shown = Table(title=title, title_justify="left", box=None, padding=(0, 1, 0, 0), pad_edge=False)
    numbers = {name: str(number) for number, name in enumerate(_numbers(rows), start=1)}
    add_columns(shown, ("set", "architecture", "images", "mean", "std"))
    for column in ("95 % interval", "vs set 1", "95 % interval"):
        shown.add_column(column, justify="right", overflow="fold")
    for row in rows:
        shown.add_row(
            numbers[row["set"]],
            row["architecture"],
            f"{row['images_per_class']:g}",
            f"{row['mean']:.1f}",
            deviation(row) or NONE,
            span(row.get("interval95")) or NONE,
            NONE if row["difference"] is None else f"{row['difference']:+.1f}",
            span(row["difference_interval95"]) or NONE,
        )
    reasons = ["images: per class; vs set 1: difference to set 1, paired by seed"]
    explain(shown, *reasons, *([ONE_NETWORK] if not all(deviation(row) for row in rows) else []))
    return shown
