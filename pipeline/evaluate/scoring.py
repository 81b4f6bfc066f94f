"""Trains and scores networks in a pool of processes: a call takes a block of seeds of one row."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch

from m3d import Recipe, Score, TestSet, trials, trials_together
from m3d.backend.device_names import device_name
from m3d.backend.execution import training_flops, with_compiler
from m3d.backend.precision import resolve
from m3d.config import ConfigError
from m3d.training import ensemble
from pipeline.config.run_config import RunConfig
from pipeline.data.prepared_dataset import PreparedDataset
from pipeline.errors import UserError
from pipeline.evaluate.results import NetworkScore
from pipeline.evaluate.resume import NetworkCheckpoints, PartialEvaluation
from pipeline.evaluate.rows import RowRequest
from pipeline.evaluate.training_sets import TrainingSet
from pipeline.formats.confusion_matrix import Confusion
from pipeline.formats.provenance import commit
from pipeline.formats.run_folder import RunFolder
from pipeline.observability.progress import Display
from pipeline.runtime import nodes as ray_nodes
from pipeline.runtime.devices import assigned_device
from pipeline.runtime.placement import capacity, does_not_fit
from pipeline.runtime.task_pool import Slots, results

Loader = Callable[[int], TrainingSet]
"""Returns the training set of a seed. It travels to the task, so it is a function of a module or a partial of one."""


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """What the networks of one command have in common."""

    title: str
    """Name of the command in its output."""
    config: RunConfig
    shards: str
    """Folder of the class shards with the test images."""
    networks: int
    """Networks of the command, finished ones included: a resumed command then chooses the same threads and compiler."""


@dataclass(frozen=True, kw_only=True)
class IncompleteRow:
    """A row whose networks are not all scored."""

    request: RowRequest
    key: str
    """Key of its stored scores and checkpoints: ``RowRequest.score_key``."""
    load: Loader
    cost: int = 1
    """Work of one of its networks; progress and the time left count it, since networks differ by factors.

    An integer, so that all of it together is exactly the total.
    """


@dataclass(frozen=True, kw_only=True)
class NetworkBlock:
    """Networks of one row that a task trains."""

    row: IncompleteRow
    seeds: tuple[int, ...]
    folder: RunFolder | None = None
    """Folder of the checkpoints; None writes none."""


@dataclass(frozen=True, kw_only=True)
class NetworkShare:
    """Resources of one network, and how many fit into the cluster."""

    threads: int
    """Number of CPUs, and of torch's threads."""
    gpus: float
    slots: int
    """Networks that are trained at the same time."""


@dataclass(frozen=True, kw_only=True)
class _Task:
    """What all tasks of one command have in common."""

    config: RunConfig
    shards: str
    threads: int
    networks: int
    """Networks that the process will train; decides whether compiling pays."""


def complete_rows(
    rows: Sequence[IncompleteRow], scoring: Scoring, store: PartialEvaluation | None
) -> Iterator[tuple[IncompleteRow, dict[int, NetworkScore]]]:
    """Trains the networks that are missing and yields every row with its scores by seed as soon as it is complete.

    Scores of incomplete rows are stored. The caller removes the scores of a complete row from the store, or adds them.

    Args:
        rows: what to complete, in this order.
        scoring: what all networks have in common.
        store: scores of an interrupted command; its folder has the checkpoints. None stores nothing.

    Raises:
        UserError: no node can train a network, or the settings do not fit.
        FailedError: a task was lost.
    """
    if not rows:
        return
    seeds, gpu = range(scoring.config.evaluate.seeds), share(1, scoring.config).gpus > 0
    scored: dict[str, dict[int, NetworkScore]] = {}
    pending: list[NetworkBlock] = []
    for row in rows:
        stored = store.scores(row.key) if store else {}
        scored[row.key] = {seed: score for seed, score in stored.items() if seed in seeds}
        missing = [seed for seed in seeds if seed not in scored[row.key]]
        folder = store.folder if store else None
        blocks = seed_blocks(missing, row.request.key.architecture, scoring.config, gpu=gpu)
        pending += [NetworkBlock(row=row, seeds=block, folder=folder) for block in blocks]
    before, total = sum(map(len, scored.values())), len(rows) * len(seeds)
    with Display(scoring.title, sum(row.cost for row in rows) * len(seeds)) as display:
        if before:
            display.start_at(sum(row.cost * len(scored[row.key]) for row in rows))
            display.note(f"{scoring.title}: resumes with {before} of {total} networks scored before")
        for row in rows:
            if len(scored[row.key]) == len(seeds):
                yield row, scored[row.key]
        for block, scores in score_blocks(pending, scoring, display, (before, total)):
            row = block.row
            scored[row.key].update(scores)
            if len(scored[row.key]) == len(seeds):
                yield row, scored[row.key]
            elif store:
                store.add(row.key, scores)


def seed_blocks(seeds: Sequence[int], architecture: str, config: RunConfig, *, gpu: bool) -> list[tuple[int, ...]]:
    """The seeds of every task: as many as are trained together, otherwise one each, which spreads best.

    A Ray process takes one task after another, and what it compiled for one network serves the next.
    """
    together = config.evaluate.together
    if together == 0 and ensemble.pays(architecture, torch.device("cuda" if gpu else "cpu")):
        together = len(seeds)
    # Networks that are trained together are scored after the last epoch only, and take hard labels only.
    size = 1 if config.evaluate.best_epoch or config.evaluate.labels == "soft" else max(1, together)
    return [tuple(seeds[i : i + size]) for i in range(0, len(seeds), size)]


def score_blocks(
    pending: Sequence[NetworkBlock], scoring: Scoring, display: Display, scored: tuple[int, int]
) -> Iterator[tuple[NetworkBlock, dict[int, NetworkScore]]]:
    """Trains and scores networks, a task per block; yields each block with its scores by seed as it ends.

    Args:
        pending: blocks, in the order in which they start.
        scoring: what all networks have in common.
        display: counts the work of networks.
        scored: number of networks that were scored before, and of all.
    """
    if not pending:
        return
    config = scoring.config
    _require_held_out(config, scoring.shards)
    shares = share(scoring.networks, config)
    per_process = -(-scoring.networks // shares.slots)
    common = _Task(config=config, shards=scoring.shards, threads=shares.threads, networks=per_process)
    slots = Slots(count=shares.slots, cpus=shares.threads, gpus=shares.gpus)
    calls = [partial(score_block, block, common) for block in pending]
    (done, total), spent, made_by = scored, display.done, commit() or ""

    def show() -> None:
        display.update(spent, f"{done}/{total} networks")

    show()
    for index, scores in results(scoring.title, calls, slots, config.resources, on_tick=show, note=display.note):
        done, spent = done + len(scores), spent + pending[index].row.cost * len(scores)
        yield pending[index], {seed: replace(score, commit=made_by) for seed, score in scores.items()}
        show()


def share(networks: int, config: RunConfig) -> NetworkShare:
    """The resources of one network.

    Args:
        networks: number of networks to train.
        config: ``resources`` may set the GPUs of a network.

    Raises:
        UserError: no node can train one.
    """
    nodes = ray_nodes.nodes()
    gpus = config.resources.gpus_per_actor
    gpus = float(any(node.gpus >= 1 for node in nodes)) if gpus is None else gpus
    able = [node for node in nodes if capacity(1, gpus, [node])]
    if not able:
        raise does_not_fit(1, gpus, nodes)
    if gpus:
        threads = max(1, min(int(node.cpus * gpus / node.gpus) for node in able))
    else:
        threads = max(1, min(int(sum(node.cpus for node in able) / networks), int(max(node.cpus for node in able))))
    return NetworkShare(threads=threads, gpus=gpus, slots=max(1, capacity(threads, gpus, able)))


def _require_held_out(config: RunConfig, shards: str) -> None:
    """Raises UserError if networks are to be scored on a validation split without an image."""
    fraction = config.data.validation_fraction
    rows = [entry["train"]["rows"] for entry in PreparedDataset(shards, config.data).classes]
    if config.evaluate.on == "validation" and not any(round(count * fraction) for count in rows):
        raise UserError(f"evaluate.on=validation: data.validation_fraction={fraction:g} holds out no image; use more")


def score_block(block: NetworkBlock, task: _Task) -> dict[int, NetworkScore]:
    """Trains and scores the networks of one block in this process; returns the scores by seed.

    Raises:
        UserError: the settings do not fit each other.
    """
    try:
        return _trained_and_scored(block, task)
    except ConfigError as error:
        raise UserError(str(error)) from None


def _trained_and_scored(block: NetworkBlock, task: _Task) -> dict[int, NetworkScore]:
    torch.set_num_threads(task.threads)
    config, request, device = task.config, block.row.request, assigned_device()
    precision = resolve(config.condense.precision, device)
    sets = {seed: block.row.load(seed) for seed in block.seeds}
    first = sets[block.seeds[0]]
    test = _test_set(task, first)
    if len(block.seeds) > 1:
        scores = _together(block, sets, test, device, precision)
        return {seed: _network_score(score, precision, device, compiled=False) for seed, score in scores}
    channels, height, width = first.images.shape[1:]
    architecture = request.key.architecture
    work = training_flops(request.training.epochs, architecture, len(first.images), (channels, height, width))

    def scored(compiled: bool) -> dict[int, NetworkScore]:
        scores = trials(
            Recipe(architecture=architecture, training=request.training, precision=precision, compiled=compiled),
            first.images.to(device),
            first.labels.to(device),
            test,
            seeds=block.seeds,
            best_epoch=config.evaluate.best_epoch,
            keeper=NetworkCheckpoints(block.folder, f"{block.row.key}-{precision}") if block.folder else None,
        )
        return {seed: _network_score(score, precision, device, compiled=compiled) for seed, score in scores}

    # A Ray process trains one network after another, and what it compiled for the first serves the others.
    compile, total = config.evaluate.compile, task.networks * work
    return with_compiler(scored, compile, total, device, task.threads, key="evaluate.compile")


def _test_set(task: _Task, trained_on: TrainingSet) -> TestSet:
    """The test images, normalised like the images that the networks are trained on."""
    test = PreparedDataset(task.shards, task.config.data).test_set(task.config.evaluate.on)
    return replace(test, mean=trained_on.mean, std=trained_on.std)


def _together(
    block: NetworkBlock, sets: dict[int, TrainingSet], test: TestSet, device: torch.device, precision: str
) -> Iterator[tuple[int, Score]]:
    images = torch.stack([sets[seed].images for seed in block.seeds]).to(device)
    labels = sets[block.seeds[0]].labels.to(device)
    request = block.row.request
    recipe = Recipe(architecture=request.key.architecture, training=request.training, precision=precision)
    return trials_together(recipe, images, labels, test, seeds=block.seeds)


def _network_score(score: Score, precision: str, device: torch.device, *, compiled: bool) -> NetworkScore:
    return NetworkScore(
        accuracy=score.accuracy,
        confusion=Confusion.of(score.confusion.cpu().numpy()),
        best=score.best_accuracy,
        precision=precision,
        compiled=compiled,
        device=device_name(device),
        curve=score.measured,
    )
