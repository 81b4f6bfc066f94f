"""The evaluate stage: fresh networks trained on the condensed set and on its baselines."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import ray
import torch

from m3d.config import ConfigError
from pipeline.config.run_config import RunConfig
from pipeline.data.prepared_dataset import PreparedDataset
from pipeline.errors import UserError
from pipeline.evaluate.baselines import CHOSEN, chosen_rows
from pipeline.evaluate.dd_ranking import scores
from pipeline.evaluate.results import (
    Scored,
    held_row,
    read_rows,
    row_of,
    set_names,
    training_for,
    training_settings,
    write_rows,
)
from pipeline.evaluate.resume import Partial, key_of
from pipeline.evaluate.scoring import Trial, blocks, score_all, share
from pipeline.evaluate.soft_labels import pretrain_command, teacher_of
from pipeline.evaluate.tables import scores_table, table
from pipeline.evaluate.training_sets import set_of_run
from pipeline.formats.condensed_reader import condensed_folder, read_manifest
from pipeline.formats.run_folder import RunFolder
from pipeline.observability.progress import Display, console, say
from pipeline.runtime import session
from pipeline.runtime.devices import device_of_actor
from pipeline.runtime.tasks import result
from pipeline.storage.documents import SEAL


def evaluate(config: RunConfig, folder: RunFolder, dataset: PreparedDataset) -> list[dict[str, Any]]:
    """Trains and scores every set, architecture and seed that is missing in evaluation.json, and prints the table.

    Every network is kept as soon as it is scored, so an interrupted call loses those under way only.

    Args:
        config: of the run; ``evaluate`` says how.
        folder: of the run with its condensed set, or of a condensed set alone.
        dataset: the class shards.

    Returns:
        The rows that the configuration asks for.

    Raises:
        UserError: the row of the whole set is asked for, and ``pretrain`` has not written it.
    """
    out, cache, cache_folder = folder.path, dataset, dataset.folder
    seal = read_manifest(condensed_folder(out))[SEAL]
    classes = len(cache.classes)
    origins = {"condensed_set": seal, "class_shards": cache.seal}
    if config.evaluate.labels == "soft":
        origins["teacher"] = teacher_of(config, out, cache)
    architectures = dict.fromkeys(config.evaluate.architectures)
    wanted = [(name, architecture) for architecture in architectures for name in set_names(config)]
    if not wanted:
        raise UserError(
            "evaluate.sets: given mosaic alone, but condense.start=noise with factor 1 has none; name another"
        )
    held = {pair: row for pair in wanted if (row := held_row(config, out, *pair, origins, classes)) is not None}
    if held:
        say(f"evaluate: {len(held)} of {len(wanted)} rows are held from before")
    _require_whole(out, wanted, held)
    missing = [pair for pair in wanted if pair not in held]
    if missing:
        session.start(config.resources)
        _choose(config, out, cache_folder, missing)
    for name, architecture, scored, images in _rows(config, out, cache_folder, missing, origins, classes, len(wanted)):
        row = row_of(config, name, architecture, scored, classes=classes, images=images, **origins)
        held[name, architecture] = row
        write_rows(out, [row])  # a row is kept as soon as it is whole
    rows = [held[pair] for pair in wanted]
    write_rows(out, rows)  # in the order asked for
    console().print(table(rows, config.evaluate.on))
    shown = scores_table(one for one in scores(read_rows(out)) if _asked(one, config))
    if shown is not None:
        console().print(shown)
    return rows


def _require_whole(out: str, wanted: Sequence[tuple[str, str]], held: dict[tuple[str, str], Any]) -> None:
    absent = [architecture for name, architecture in wanted if name == "whole" and ("whole", architecture) not in held]
    if absent:
        command = pretrain_command(out, absent[0])
        raise UserError(f"{out}: has no row of the whole set for {', '.join(absent)}; run {command} first")


def _asked(score: dict[str, Any], config: RunConfig) -> bool:
    chosen = config.evaluate
    return (
        score["architecture"] in chosen.architectures
        and score["on"] == chosen.on
        and score["protocol"] == chosen.protocol
        and score["augmentation"] == chosen.augment
        and score["labels"] == chosen.labels
    )


def _rows(
    config: RunConfig,
    out: str,
    cache_folder: str,
    missing: Sequence[tuple[str, str]],
    origins: Mapping[str, str],
    classes: int,
    rows: int,
) -> Iterator[tuple[str, str, dict[int, Scored], int]]:
    """Yields (set, architecture, scores by seed, images) of every missing row as it is whole."""
    if not missing:
        return
    training, kept = training_for(config, classes), Partial(out)
    seeds = range(config.evaluate.seeds)
    gpu = share(1, config)[1] > 0
    keys, pending, scored = {}, [], {}
    for name, architecture in missing:
        key = key_of(
            {
                "set": name,
                "architecture": architecture,
                "training": training_settings(training),
                "on": config.evaluate.on,
                "best_epoch": config.evaluate.best_epoch,
                **origins,
            }
        )
        keys[key] = (name, architecture)
        scored[key] = {seed: one for seed, one in kept.scored(key).items() if seed in seeds}
        left = [seed for seed in seeds if seed not in scored[key]]
        load = partial(set_of_run, name, config, out, cache_folder)
        for block in blocks(left, architecture, config, gpu=gpu):
            pending.append(
                Trial(key=key, load=load, architecture=architecture, seeds=block, training=training, out=out)
            )
    before = sum(len(one) for one in scored.values())
    with Display("evaluate", len(missing) * len(seeds)) as display:
        if before:
            display.start_at(before)
            display.note(f"evaluate: {before} of {len(missing) * len(seeds)} networks are held from before")

        def whole(key: str) -> tuple[str, str, dict[int, Scored], int]:
            name, architecture = keys[key]
            return name, architecture, scored[key], _images(name, config, classes)

        for key in [key for key in keys if len(scored[key]) == len(seeds)]:
            yield whole(key)
            kept.drop(key)
        networks = rows * len(seeds)
        for trial, found in score_all(pending, config, cache_folder, networks=networks, display=display):
            scored[trial.key].update(found)
            if len(scored[trial.key]) == len(seeds):
                yield whole(trial.key)
                kept.drop(trial.key)
            else:
                kept.add(trial.key, found)


def _images(name: str, config: RunConfig, classes: int) -> int:
    """Training images of a set."""
    views = config.condense.factor**2 if name in ("condensed", "mosaic") else 1
    return classes * config.condense.images_per_class * views


def _choose(config: RunConfig, out: str, cache_folder: str, missing: Sequence[tuple[str, str]]) -> None:
    """Has the images of herding and k-center chosen, where they are needed: once, in one task with all it can get."""
    names = [name for name in CHOSEN if any(name == asked for asked, _ in missing)]
    if not names:
        return
    threads, gpus, _ = share(1, config)
    task = _chosen.options(num_cpus=threads, num_gpus=gpus)
    result(task.remote(names, config, out, cache_folder, threads), "evaluate")
    say(f"feature network: {config.encoder.name}, in whose features {' and '.join(names)} choose, is there")


@ray.remote(max_retries=2)
def _chosen(names: Sequence[str], config: RunConfig, out: str, cache_folder: str, threads: int) -> None:
    torch.set_num_threads(threads)
    cache = PreparedDataset(cache_folder, config.data)
    try:
        for name in names:
            chosen_rows(name, config, out, cache, device_of_actor())
    except ConfigError as error:
        raise UserError(str(error)) from None
