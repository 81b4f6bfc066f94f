"""The compare stage: several condensed sets under one protocol and the same seeds, with paired differences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import ray
import torch
from rich.markup import escape
from rich.table import Table
from torch import Tensor

from pipeline import storage
from pipeline.config.run_config import RunConfig
from pipeline.data.prepared_dataset import PreparedDataset
from pipeline.errors import UserError
from pipeline.evaluate.intervals import paired
from pipeline.evaluate.results import Scored, row_of, training_for, training_settings
from pipeline.evaluate.resume import Partial, key_of
from pipeline.evaluate.scoring import Trial, blocks, score_all, share
from pipeline.evaluate.tables import described_protocol, span
from pipeline.evaluate.training_sets import TrainingSet
from pipeline.formats import peers
from pipeline.formats.condensed_reader import condensed_folder, load_condensed, read_manifest
from pipeline.formats.run_folder import RunFolder
from pipeline.observability.progress import Display, console, say
from pipeline.runtime import session

FILE = "comparison.json"


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A condensed set that is compared."""

    name: str
    """As it was given."""
    held: TrainingSet
    stored: int
    """Stored images, of all classes."""
    note: str = ""


def compare(
    given: Sequence[str], config: RunConfig, cache: PreparedDataset, folder: RunFolder | None = None
) -> list[dict[str, Any]]:
    """Trains networks on every set, prints one table of accuracies and differences to the first set.

    Args:
        given: folders of runs or condensed sets, and files as ``peers`` names them; two or more.
        config: ``evaluate`` says the protocol, architectures and seeds.
        cache: class shards with the test images.
        folder: a folder for comparison.json, where an interrupted call goes on.

    Returns:
        A row per architecture and set.
    """
    if config.evaluate.labels == "soft":
        raise UserError(
            "evaluate.labels: given 'soft', but compare trains with the sets' own labels; add --set evaluate.labels=hard"
        )
    out = None if folder is None else folder.path
    candidates = [candidate(one, config, cache) for one in given]
    for one in candidates:
        if one.note:
            say(f"{one.name}: {one.note}")
    session.start(config.resources)
    rows: list[dict[str, Any]] = []
    scored = _scores(candidates, config, cache, out)
    classes = len(cache.classes)
    for architecture in dict.fromkeys(config.evaluate.architectures):
        first: dict[int, float] | None = None
        for index, one in enumerate(candidates):
            found = scored[index, architecture]
            row = row_of(config, one.name, architecture, found, classes=classes, images=len(one.held.labels))
            accuracies = {seed: score.accuracy for seed, score in found.items()}
            first = first or accuracies
            difference = paired(accuracies, first) if index else None
            row |= {
                "images_per_class": one.stored / classes,
                "difference": None if difference is None else difference.mean,
                "difference_interval95": None if difference is None else difference.interval,
                "note": one.note,
            }
            rows.append(row)
    if out is not None:
        storage.write_json(storage.join(out, FILE), {"compared_with": candidates[0].name, "results": rows})
    console().print(table(rows, config.evaluate.on))
    return rows


def candidate(given: str, config: RunConfig, cache: PreparedDataset) -> Candidate:
    """A set by its name on the command line.

    Raises:
        UserError: it cannot be read, is of other classes or another size than the data, or was made from images that it
            would be scored on.
    """
    channels, height, width = cache.manifest["shape"]
    shape = (channels, height, width)
    names = [entry["name"] for entry in cache.classes]
    if peers.is_peer(given):
        file = peers.parse(given)
        normalised = file.layout in peers.NORMALISED
        moments = peers.published_moments(file.layout, config.data) if normalised else cache.moments
        read = peers.read(file, shape=shape, classes=len(names), moments=moments)
        held = TrainingSet(images=read.images, labels=read.labels, mean=read.mean, std=read.std)
        untold = "it may have been made from images that it is scored on" if _split_keys(config, cache) else ""
        note = "; ".join(filter(None, (read.note, untold)))
        return Candidate(name=given, held=held, stored=read.stored, note=note)
    folder = condensed_folder(given)
    manifest, ours = read_manifest(folder), load_condensed(folder)
    _refuse_seen(given, manifest, config, cache)
    if tuple(manifest["shape"]) != shape or ours.class_names != names:
        raise UserError(
            f"{given}: holds {len(ours.class_names)} classes of {list(manifest['shape'])}, the data has {len(names)} of "
            f"{list(shape)}, or they are named otherwise; compare sets of the same data"
        )
    held = TrainingSet(images=ours.images, labels=ours.labels, mean=ours.mean, std=ours.std)
    return Candidate(name=given, held=held, stored=manifest["images_per_class"] * len(names))


def _refuse_seen(given: str, manifest: Mapping[str, Any], config: RunConfig, cache: PreparedDataset) -> None:
    """Raises UserError where the images that networks are scored on are not those that the set's own run held out."""
    keys, held = _split_keys(config, cache), manifest.get("config", {}).get("data", {})
    own, asked = ({key: data.get(key) for key in keys} for data in (held, vars(config.data)))
    if own != asked:
        raise UserError(
            f"{given}: was made with {_words(own)}, but the networks would be scored with {_words(asked)}, so on images that it "
            "may have been made from; compare sets of one split"
        )


def _split_keys(config: RunConfig, cache: PreparedDataset) -> list[str]:
    """Settings of data.* that say which images the networks are scored on; none where the data have a test split of their own."""
    keys = ["test_fraction"] if cache.manifest["test_cut_from_train"] else []
    keys += ["validation_fraction"] if config.evaluate.on == "validation" else []
    return [*keys, "split_seed"] if keys else []


def _words(split: Mapping[str, Any]) -> str:
    return ", ".join(f"data.{key}={value}" for key, value in split.items())


def _scores(
    candidates: Sequence[Candidate], config: RunConfig, cache: PreparedDataset, out: str | None
) -> dict[tuple[int, str], dict[int, Scored]]:
    """Scores by seed of every set (by its number) and architecture."""
    training = training_for(config, len(cache.classes))
    kept = Partial(out) if out else None
    seeds, gpu = range(config.evaluate.seeds), share(1, config)[1] > 0
    found: dict[tuple[int, str], dict[int, Scored]] = {}
    owners, pending = {}, []
    architectures = dict.fromkeys(config.evaluate.architectures)
    for index, one in enumerate(candidates):
        stored = ray.put(one.held)  # once, not with every task
        for architecture in architectures:
            about = {"architecture": architecture, "training": training_settings(training), "on": config.evaluate.on}
            about |= {"images": _checksum(one.held), "shards": cache.seal, "set": index}
            about |= {"held_out": [config.data.validation_fraction, config.data.split_seed]}
            key = key_of({**about, "best_epoch": config.evaluate.best_epoch})
            owners[key] = (index, architecture)
            held = kept.scored(key) if kept else {}
            found[index, architecture] = {seed: one for seed, one in held.items() if seed in seeds}
            left = [seed for seed in seeds if seed not in found[index, architecture]]
            load = partial(_same, stored)
            for block in blocks(left, architecture, config, gpu=gpu):
                pending.append(
                    Trial(key=key, load=load, architecture=architecture, seeds=block, training=training, out=out)
                )
    total = len(candidates) * len(architectures) * len(seeds)
    with Display("compare", total) as display:
        display.start_at(sum(len(one) for one in found.values()))
        for trial, scored in score_all(pending, config, cache.folder, networks=total, display=display):
            found[owners[trial.key]].update(scored)
            if kept:
                kept.add(trial.key, scored)
    return found


def _same(stored: Any, seed: int) -> TrainingSet:
    """The set of every seed, out of Ray's object store: a condensed set does not depend on the network's."""
    return ray.get(stored)


def _checksum(held: TrainingSet) -> str:
    parts: list[Tensor] = [held.images, held.labels, torch.tensor([*held.mean, *held.std])]
    return storage.sha256(b"".join(part.contiguous().numpy().tobytes() for part in parts))


def table(rows: Sequence[dict[str, Any]], on: str) -> Table:
    """The rows as a person reads them."""
    shown = Table(title=f"{on} accuracy, %, same protocol and seeds", title_justify="left")
    columns = ("set", "architecture", "protocol", "images per class", "mean", "std", "95 % interval", "seeds")
    last = ("difference to the first", "its 95 % interval")
    for column in (*columns, *last):
        shown.add_column(column, justify="left" if column in columns[:3] else "right")
    for row in rows:
        difference = "" if row["difference"] is None else f"{row['difference']:+.1f}"
        shown.add_row(
            escape(row["set"]),  # a path may hold brackets, which rich takes for markup
            row["architecture"],
            described_protocol(row),
            f"{row['images_per_class']:g}",
            f"{row['mean']:.1f}",
            f"{row['std']:.1f}",
            span(row["interval95"]),
            str(len(row["seeds"])),
            difference,
            span(row["difference_interval95"]),
        )
    return shown
