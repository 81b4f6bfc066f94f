"""Networks that are trained and scored as Ray tasks: a task takes a block of seeds of one set and architecture."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import ray
import torch

from m3d import Score, TestSet, trials, trials_together
from m3d.backend.device_names import device_name
from m3d.backend.execution import training_flops, with_compiler
from m3d.backend.precision import resolve
from m3d.config import ConfigError, Train
from m3d.training import ensemble
from pipeline.config.run_config import RunConfig
from pipeline.data.prepared_dataset import PreparedDataset
from pipeline.errors import UserError
from pipeline.evaluate.results import Scored
from pipeline.evaluate.resume import UnderWay
from pipeline.evaluate.training_sets import TrainingSet
from pipeline.formats.provenance import commit
from pipeline.observability.progress import Display
from pipeline.runtime import nodes as ray_nodes
from pipeline.runtime.devices import device_of_actor
from pipeline.runtime.placement import capacity, does_not_fit
from pipeline.runtime.tasks import results

Loader = Callable[[int], TrainingSet]
"""A seed's training set; travels to the task, so it is a function of a module or a partial of one."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A block of networks: which set they are trained on, their architecture and their seeds."""

    key: str
    """Names the row that they belong to."""
    load: Loader
    architecture: str
    seeds: tuple[int, ...]
    training: Train
    out: str | None = None
    """Folder in which networks that take long are kept while they are trained."""


@dataclass(frozen=True, kw_only=True)
class _Place:
    """What every task of one call is told."""

    config: RunConfig
    cache_folder: str
    threads: int
    networks: int
    """That the process will train, for the choice whether compiling pays."""


def blocks(seeds: Sequence[int], architecture: str, config: RunConfig, *, gpu: bool) -> list[tuple[int, ...]]:
    """Seeds that one task takes: as many as are trained as one, else a single one, which spreads best.

    A process of Ray takes one task after another, and what it has compiled for one network serves the next.
    """
    asked = config.evaluate.together
    if asked == 0 and ensemble.pays(architecture, torch.device("cuda" if gpu else "cpu")):
        asked = len(seeds)
    # Networks that are trained as one are not looked at on the way, and have hard labels.
    size = 1 if config.evaluate.best_epoch or config.evaluate.labels == "soft" else max(1, asked)
    return [tuple(seeds[i : i + size]) for i in range(0, len(seeds), size)]


def score_all(
    pending: Sequence[Trial], config: RunConfig, cache_folder: str, *, networks: int, display: Display
) -> Iterator[tuple[Trial, dict[int, Scored]]]:
    """Trains and scores, a task per trial; yields each as it ends.

    Args:
        pending: what to do, in this order.
        config: its precision, ``evaluate.compile`` and resources count.
        cache_folder: class shards with the test images.
        networks: of the whole evaluation, so that one which goes on chooses threads and compiler as the first call did.
        display: counts networks.
    """
    if not pending:
        return
    _require_held_out(config, cache_folder)
    threads, gpus, slots = share(networks, config)
    place = _Place(config=config, cache_folder=cache_folder, threads=threads, networks=-(-networks // slots))
    task = _score.options(num_cpus=threads, num_gpus=gpus)
    calls = [partial(task.remote, trial, place) for trial in pending]
    done, total, made_by = display.done, display.total, commit() or ""

    def show() -> None:
        display.update(done, f"{done}/{total} networks")

    show()
    for index, scored in results(calls, slots, "evaluate", on_tick=show):
        done += len(scored)
        yield pending[index], {seed: replace(one, commit=made_by) for seed, one in scored.items()}
        show()


def _require_held_out(config: RunConfig, cache_folder: str) -> None:
    """Raises UserError where networks are to be scored on a validation split without an image."""
    fraction = config.data.validation_fraction
    rows = [entry["train"]["rows"] for entry in PreparedDataset(cache_folder, config.data).classes]
    if config.evaluate.on == "validation" and not any(round(count * fraction) for count in rows):
        raise UserError(f"evaluate.on=validation: data.validation_fraction={fraction:g} holds out no image; use more")


def share(trials: int, config: RunConfig) -> tuple[int, float, int]:
    """CPUs (and threads) and GPUs of one network, and how many networks the cluster holds at a time.

    Raises:
        UserError: no node can hold one.
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
        threads = max(1, min(int(sum(node.cpus for node in able) / trials), int(max(node.cpus for node in able))))
    return threads, gpus, max(1, capacity(threads, gpus, able))


@ray.remote(max_retries=2)
def _score(trial: Trial, place: _Place) -> dict[int, Scored]:
    # A task is pickled by value, and one that names both torch and .config drags torch's modules of such names along.
    return score(trial, place)


def score(trial: Trial, place: _Place) -> dict[int, Scored]:
    """Trains and scores the networks of one block in this process. Raises UserError for settings that do not fit."""
    try:
        return _trained_and_scored(trial, place)
    except ConfigError as error:
        raise UserError(str(error)) from None


def _trained_and_scored(trial: Trial, place: _Place) -> dict[int, Scored]:
    torch.set_num_threads(place.threads)
    config, device = place.config, device_of_actor()
    precision = resolve(config.condense.precision, device)
    sets = {seed: trial.load(seed) for seed in trial.seeds}
    first = sets[trial.seeds[0]]
    test = _test_set(place, first)
    if len(trial.seeds) > 1:
        found = _together(trial, sets, test, device, precision)
        return {seed: _scored(one, precision, device, compiled=False) for seed, one in found}
    channels, height, width = first.images.shape[1:]
    work = training_flops(trial.training, trial.architecture, len(first.images), (channels, height, width))

    def scored(compiled: bool) -> dict[int, Scored]:
        found = trials(
            trial.architecture,
            first.images.to(device),
            first.labels.to(device),
            test,
            config=trial.training,
            seeds=trial.seeds,
            precision=precision,
            compiled=compiled,
            best_epoch=config.evaluate.best_epoch,
            keeper=UnderWay(trial.out, f"{trial.key}-{precision}") if trial.out else None,
        )
        return {seed: _scored(one, precision, device, compiled=compiled) for seed, one in found}

    # Ray gives a process one network after another, and what was compiled for the first serves the others.
    compile, total = config.evaluate.compile, place.networks * work
    return with_compiler(scored, compile, total, device, place.threads, key="evaluate.compile")


def _test_set(place: _Place, trained_on: TrainingSet) -> TestSet:
    """The test images, normalised like those that the networks are trained on."""
    test = PreparedDataset(place.cache_folder, place.config.data).test_set(place.config.evaluate.on)
    return replace(test, mean=trained_on.mean, std=trained_on.std)


def _together(
    trial: Trial, sets: dict[int, TrainingSet], test: TestSet, device: torch.device, precision: str
) -> Iterator[tuple[int, Score]]:
    images = torch.stack([sets[seed].images for seed in trial.seeds]).to(device)
    labels = sets[trial.seeds[0]].labels.to(device)
    return trials_together(
        trial.architecture, images, labels, test, config=trial.training, seeds=trial.seeds, precision=precision
    )


def _scored(score: Score, precision: str, device: torch.device, *, compiled: bool) -> Scored:
    return Scored(
        accuracy=score.accuracy,
        confusion=score.confusion.tolist(),
        best=score.best_accuracy,
        precision=precision,
        compiled=compiled,
        device=device_name(device),
    )
