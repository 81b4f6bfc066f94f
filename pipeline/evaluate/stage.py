"""The evaluate stage: fresh networks trained on the condensed set and on its baselines."""

from collections.abc import Iterator, Sequence
from functools import partial

import torch

from m3d.backend.execution import training_flops
from m3d.config import ConfigError
from pipeline.config.run_config import RunConfig
from pipeline.data.prepared_dataset import PreparedDataset
from pipeline.errors import UserError
from pipeline.evaluate.baselines import SELECTED, selected_rows
from pipeline.evaluate.dd_ranking import key_of, scores
from pipeline.evaluate.results import read_rows, row_of, write_rows
from pipeline.evaluate.resume import PartialEvaluation
from pipeline.evaluate.rows import WHOLE, EvaluationRow, Origins, RowKey, RowRequest, requested_rows, tracked_results
from pipeline.evaluate.scoring import IncompleteRow, Scoring, complete_rows, share
from pipeline.evaluate.soft_labels import pretrain_command, teacher_of
from pipeline.evaluate.tables import scores_table, table
from pipeline.evaluate.training_sets import set_of_run
from pipeline.formats.condensed_reader import condensed_folder, read_manifest
from pipeline.formats.run_folder import RunFolder
from pipeline.observability.progress import console, say
from pipeline.observability.trackers.tracking import track_results
from pipeline.runtime import session
from pipeline.runtime.devices import assigned_device
from pipeline.runtime.speed import time_of
from pipeline.runtime.task_pool import Slots, result
from pipeline.storage.documents import SEAL


def evaluate(config: RunConfig, folder: RunFolder, dataset: PreparedDataset) -> list[EvaluationRow]:
    """Trains and scores every set, architecture and seed that evaluation.json lacks, and prints the table.

    Every network is stored as soon as it is scored, so an interrupted call loses only those that were being trained.

    Args:
        config: configuration of the run; ``evaluate`` has the sets, architectures, seeds and the training.
        folder: folder of the run with its condensed set, or of a condensed set alone.
        dataset: the class shards.

    Returns:
        The rows that the configuration asks for, in its order.

    Raises:
        UserError: the row of the full training set is asked for, and ``pretrain`` has not written it.
    """
    requests = requested_rows(config, _origins(config, folder, dataset), len(dataset.classes))
    if not requests:
        raise UserError(
            "evaluate.sets: given mosaic alone, but condense.start=noise with factor 1 has none; name another"
        )
    stored = read_rows(folder)
    rows = {request.key: row for request in requests if (row := request.answer(stored)) is not None}
    if rows:
        say(f"evaluate: {len(rows)} of {len(requests)} rows were evaluated before")
    for row in rows.values():  # a tracker may be new to them
        track_results(tracked_results(row))
    missing = [request for request in requests if request.key not in rows]
    _require_whole_set(folder, missing)
    if missing:
        session.start(config.resources)
        _announce(missing, config, dataset)
        _select(config, folder, dataset, missing)
        networks = len(requests) * config.evaluate.seeds
        scoring = Scoring(title="evaluate", config=config, shards=dataset.folder, networks=networks)
        rows |= {RowKey.of(row): row for row in _evaluated(missing, scoring, folder, dataset)}
    in_order = [rows[request.key] for request in requests]
    write_rows(folder, in_order)
    _print(in_order, folder, config)
    return in_order


def _origins(config: RunConfig, folder: RunFolder, dataset: PreparedDataset) -> Origins:
    """Checksums of the data that every row is measured on. Raises UserError if soft labels are asked for without a teacher."""
    seal = read_manifest(condensed_folder(folder.path))[SEAL]
    origins: Origins = {"condensed_set": seal, "class_shards": dataset.seal}
    if config.evaluate.labels == "soft":
        origins["teacher"] = teacher_of(config, folder, dataset)
    return origins


def _require_whole_set(folder: RunFolder, missing: Sequence[RowRequest]) -> None:
    architectures = [request.key.architecture for request in missing if request.key.set == WHOLE]
    if architectures:
        command = pretrain_command(folder, architectures[0])
        raise UserError(f"{folder}: has no row of the whole set for {', '.join(architectures)}; run {command} first")


def _evaluated(
    missing: Sequence[RowRequest], scoring: Scoring, folder: RunFolder, dataset: PreparedDataset
) -> Iterator[EvaluationRow]:
    """Trains the networks of missing rows; writes every row as soon as it is complete, and yields it."""
    config, store, classes = scoring.config, PartialEvaluation(folder), len(dataset.classes)
    incomplete = [
        IncompleteRow(
            request=request,
            key=request.score_key({**request.origins}),
            load=partial(set_of_run, request.key.set, config, folder, scoring.shards),
            cost=_network_work(request, config, dataset),
        )
        for request in missing
    ]
    stored = config.condense.images_per_class
    for entry, network_scores in complete_rows(incomplete, scoring, store):
        request = entry.request
        images = classes * stored * _views(request.key.set, config)
        row = row_of(request, network_scores, images_per_class=stored, images=images, matrices=folder.matrices)
        write_rows(folder, [row])
        store.remove(entry.key)
        track_results(tracked_results(row))
        yield row


def _announce(missing: Sequence[RowRequest], config: RunConfig, dataset: PreparedDataset) -> None:
    """Prints how many networks are trained and roughly how long it takes."""
    seeds = config.evaluate.seeds
    architectures = len({request.key.architecture for request in missing})
    sets = len({request.key.set for request in missing})
    work = seeds * sum(_network_work(request, config, dataset) for request in missing)
    channels, side, _ = dataset.manifest["shape"]
    _, words = time_of(work, config.encoder, (channels, side), config.resources)
    counts = f"{_count(architectures, 'architecture')} x {_count(sets, 'set')}"
    if len(missing) != architectures * sets:  # some rows are there
        counts = _count(len(missing), "row")
    say(f"evaluate: {_count(len(missing) * seeds, 'network')} to train ({counts} x {_count(seeds, 'seed')}), {words}")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _network_work(request: RowRequest, config: RunConfig, dataset: PreparedDataset) -> int:
    """Operations of training one network of a row and of scoring it."""
    shape = dataset.manifest["shape"]
    images = len(dataset.classes) * config.condense.images_per_class * _views(request.key.set, config)
    training = training_flops(request.training.epochs, request.key.architecture, images, shape)
    return training + dataset.counts["test"] * training_flops(1, request.key.architecture, 1, shape) // 3


def _views(name: str, config: RunConfig) -> int:
    """Training images that a set has for every stored image."""
    return config.condense.factor**2 if name in ("condensed", "mosaic") else 1


def _print(rows: Sequence[EvaluationRow], folder: RunFolder, config: RunConfig) -> None:
    """Prints the table of the rows, and the scores under the same protocol."""
    console().print(table(rows, config.evaluate.on))
    shown = scores_table(score for score in scores(read_rows(folder)) if _is_requested(key_of(score), config))
    if shown is not None:
        console().print(shown)


def _is_requested(key: RowKey, config: RunConfig) -> bool:
    evaluate = config.evaluate
    return key.architecture in evaluate.architectures and (key.protocol, key.on, key.augmentation, key.labels) == (
        evaluate.protocol,
        evaluate.on,
        evaluate.augment,
        evaluate.labels,
    )


def _select(config: RunConfig, folder: RunFolder, dataset: PreparedDataset, missing: Sequence[RowRequest]) -> None:
    """Selects the images of herding and k-center if they are asked for: once, in one process with all that it can get."""
    sets = {request.key.set for request in missing}
    names = [name for name in SELECTED if name in sets]
    if not names:
        return
    shares = share(1, config)
    slots = Slots(cpus=shares.threads, gpus=shares.gpus)
    call = partial(_select_images, names, config, folder, dataset.folder, shares.threads)
    result("evaluate", call, slots, config.resources)
    say(f"feature network: {config.encoder.name} has selected the images of {' and '.join(names)}")


def _select_images(names: Sequence[str], config: RunConfig, folder: RunFolder, shards: str, threads: int) -> None:
    torch.set_num_threads(threads)
    dataset = PreparedDataset(shards, config.data)
    try:
        for name in names:
            selected_rows(name, config, folder, dataset, assigned_device())
    except ConfigError as error:
        raise UserError(str(error)) from None
