"""The pretrain stage: networks trained on the whole training set by Ray Train, their snapshots, and their accuracy.

Checkpoints are the project's own (``pipeline.experts``: whole objects of a known identity, local or by URL); Ray
Train places the workers, joins them, and starts them again when one dies.
"""

import os
import statistics
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import ray
import ray.train
import torch
from ray.exceptions import RayError
from ray.train.torch import TorchConfig, TorchTrainer, get_device, prepare_model

from m3d import accuracy
from m3d.precision import resolve
from m3d.whole_set import Part
from pipeline import ray_setup, storage
from pipeline.class_cache import ClassCache
from pipeline.config import Pretrain, RunConfig, to_dict
from pipeline.errors import FailedError, UserError, first_line
from pipeline.expert_loop import ExpertTask, RefusedError, Worker, train_trajectories
from pipeline.experts import (
    RULE,
    Experts,
    ExpertsManifest,
    about,
    identity_of,
    read_experts,
    refuse_others,
    seal_of,
    settings_of,
    trained_network,
)
from pipeline.plan import CPUS_PER_GPU, Node, capacity
from pipeline.progress import Display, console, say
from pipeline.record import commit, versions
from pipeline.results import read_rows, table, write_rows
from pipeline.tasks import results
from pipeline.watch_training import Watch

SET, SCHEDULE = "whole", "pretrain"
"""How the rows in evaluation.json are named."""
POLL_S = 0.5
"""Seconds between two looks of Ray Train at its workers, each of which a report waits for; its own default is 2."""
START_S = 300.0
"""Seconds that workers have to start before they are started again; Ray Train's own minute is short on a busy machine."""
COLLECTIVE_S = 1800
"""Seconds that a worker waits for the others."""


@dataclass(frozen=True, kw_only=True)
class Shares:
    """Workers and what each takes."""

    workers: int
    cpus: float
    gpus: float

    @property
    def threads(self) -> int:
        """Of torch in a worker."""
        return max(1, int(self.cpus))


def pretrain(config: RunConfig, out: str, cache_folder: str) -> list[dict[str, Any]]:
    """Trains what is missing of the trajectories, and scores their last networks; goes on where an earlier call ended.

    Args:
        config: of the run; ``pretrain`` says how.
        out: the run's folder, absolute.
        cache_folder: class shards, as ``prepare`` returned it.

    Returns:
        The row of the whole set in evaluation.json.

    Raises:
        UserError: workers that do not fit, networks of other settings in the folder, or a loss that is not finite.
        FailedError: workers died more often than ``resources.attempts`` allows.
    """
    ray_setup.start(config.resources)
    cache = ClassCache(cache_folder, config.data)
    settings = settings_of(config, cache)
    architecture, wanted = config.pretrain.architecture, config.pretrain.trajectories
    manifest = read_experts(out, architecture)
    refuse_others(out, manifest, settings, architecture)
    shares = shares_of(config.pretrain, ray_setup.nodes())
    if shares.workers > min(config.pretrain.batch, training_images(cache)):
        raise UserError(
            f"pretrain.workers: {shares.workers} share batches of {min(config.pretrain.batch, training_images(cache))} images; use "
            "fewer, or a larger pretrain.batch"
        )
    experts = Experts(out, architecture, identity_of(settings))
    if manifest is None or any(experts.finished(seed) is None for seed in range(wanted)):
        experts.claim(settings)
        _train(config, out, cache, experts, shares)
        said = {**about(config, cache, settings), "versions": versions(), "commit": commit()}
        manifest = experts.commit(wanted, said)
        say(f"pretrain: {len(manifest['trajectories'])} trajectories of {architecture} in {experts.folder}")
    else:
        say(f"pretrain: finished before, in {experts.folder}")
    row = _held_row(config, out, manifest) or _scored(config, out, cache, manifest, shares)
    console().print(table([row], config.evaluate.on))
    return [row]


def shares_of(pretrain: Pretrain, nodes: Sequence[Node]) -> Shares:
    """Settings where they are given; otherwise a worker per GPU, or one per node with all the CPUs that all nodes have.

    Threads of one process share a batch better than processes do, so a node without GPUs gets one worker.

    Raises:
        UserError: so many workers do not fit.
    """
    gpus = pretrain.gpus_per_worker
    gpus = float(any(node.gpus >= 1 for node in nodes)) if gpus is None else gpus
    able = [node for node in nodes if (node.gpus >= 1 if gpus else node.cpus >= 1)]
    most = sum(int(node.gpus) for node in able) if gpus else len(able)
    workers = pretrain.workers or max(1, min(most, pretrain.batch))
    cpus = pretrain.cpus_per_worker
    if cpus is None:
        top = int(max((node.cpus for node in able), default=1))
        top = min(top, CPUS_PER_GPU) if gpus else top
        cpus = float(next((n for n in range(top, 0, -1) if capacity(n, gpus, able) >= workers), 1))
    if capacity(cpus, gpus, able) < workers and not ray_setup.autoscales():
        raise UserError(
            f"pretrain.workers: {workers} workers of {cpus:g} CPUs and {gpus:g} GPUs do not fit on {len(nodes)} nodes with "
            f"{sum(node.cpus for node in nodes):g} CPUs and {sum(node.gpus for node in nodes):g} GPUs; lower pretrain.workers "
            "or pretrain.cpus_per_worker, or set pretrain.gpus_per_worker=0"
        )
    return Shares(workers=workers, cpus=cpus, gpus=gpus)


@ray.remote(num_cpus=0)
class _Events:
    """Carries events from the first worker to the driver, which does not see Ray Train's own reports."""

    def __init__(self) -> None:
        self.held: list[dict[str, Any]] = []

    def put(self, event: dict[str, Any]) -> None:
        self.held.append(event)

    def take(self) -> list[dict[str, Any]]:
        taken, self.held = self.held, []
        return taken


def _train(config: RunConfig, out: str, cache: ClassCache, experts: Experts, shares: Shares) -> None:
    pretrain = config.pretrain
    each = f"{shares.cpus:g} CPUs" + (f" and {shares.gpus:g} GPUs" if shares.gpus else "")
    say(
        f"pretrain: {pretrain.trajectories} x {pretrain.architecture}, {pretrain.epochs} epochs, "
        f"on {shares.workers} {'worker' if shares.workers == 1 else 'workers'} with {each}"
    )
    task = ExpertTask(config=config, out=out, cache=cache.folder, identity=experts.identity, threads=shares.threads)
    events = _Events.remote()
    trainer = _trainer(task, shares, config, experts, events)
    with Display("pretrain", pretrain.trajectories * pretrain.epochs * steps_per_epoch(cache, pretrain)) as display:
        watch = Watch(display, out, pretrain, steps_per_epoch(cache, pretrain))
        fitting = _InBackground(trainer.fit)
        while not fitting.over(1.0):
            watch(_taken(events))
        watch(_taken(events))
        if watch.refused:
            experts.disclaim()  # its own advice is to change a setting
            raise UserError(watch.refused)
        try:
            fitting.result()
        except ray.train.TrainingFailedError as error:
            raise _sentence(error, config.resources.attempts) from error


def _taken(events: Any) -> list[dict[str, Any]]:
    """The events since the last time; none where they cannot be had, since a display is not worth a training."""
    try:
        return ray.get(events.take.remote(), timeout=30)
    except RayError:
        return []


def steps_per_epoch(cache: ClassCache, pretrain: Pretrain) -> int:
    """Steps of one epoch, from the manifest alone."""
    count = training_images(cache)
    return count // min(count, pretrain.batch)


def training_images(cache: ClassCache) -> int:
    """Training images of all classes, less those that are held out."""
    rows = [entry["train"]["rows"] for entry in cache.classes]
    return sum(count - round(count * cache.data.validation_fraction) for count in rows)


def _trainer(task: ExpertTask, shares: Shares, config: RunConfig, experts: Experts, events: Any) -> TorchTrainer:
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", str(POLL_S))
    os.environ.setdefault("RAY_TRAIN_ENABLE_PRINT_PATCH", "0")  # what a worker prints would appear twice
    os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", str(max(START_S, config.resources.wait_s)))
    again = config.resources.attempts - 1
    filesystem, folder = storage.arrow_filesystem(storage.join(experts.folder, "ray"))
    return TorchTrainer(
        _loop,
        train_loop_config={"task": task, "events": events},
        torch_config=TorchConfig(timeout_s=COLLECTIVE_S),  # nccl with GPUs, else gloo
        scaling_config=ray.train.ScalingConfig(
            num_workers=shares.workers,
            use_gpu=bool(shares.gpus),
            resources_per_worker={"CPU": shares.cpus, **({"GPU": shares.gpus} if shares.gpus else {})},
        ),
        run_config=ray.train.RunConfig(
            name=f"pretrain-{experts.identity[:12]}",
            storage_path=folder,
            storage_filesystem=filesystem,
            failure_config=ray.train.FailureConfig(max_failures=again, controller_failure_limit=again),
            worker_runtime_env=ray_setup.worker_environment() or None,
            logging_config=ray.train.LoggingConfig(log_level="ERROR"),
        ),
    )


def _loop(given: dict[str, Any]) -> None:
    """What every worker runs."""
    context, task, events = ray.train.get_context(), given["task"], given["events"]
    part = Part(rank=context.get_world_rank(), world=context.get_world_size())
    # Logical GPUs of a test have no device. Ray Train shows every worker all GPUs of its node.
    device = get_device() if ray.get_gpu_ids() and torch.cuda.is_available() else torch.device("cpu")
    worker = Worker(
        part=part,
        device=device,
        wrap=partial(prepare_model, move_to_device=False) if part.world > 1 else None,
        tell=lambda event: events.put.remote(event),
        report=ray.train.report,
    )
    try:
        train_trajectories(task, worker)
    except RefusedError as error:  # every worker comes to it alike, and would after another start: nothing is retried
        if part.rank == 0:
            ray.get(events.put.remote({"event": "refused", "why": str(error)}))


class _InBackground:
    """A call on a thread of its own, so that this one can show progress and take an interrupt.

    Ray Train's ``fit`` would otherwise put a signal handler of its own in place, which swallows Ctrl-C.
    """

    def __init__(self, call: Callable[[], Any]) -> None:
        self._call, self._error, self._value = call, None, None
        self._thread = threading.Thread(target=self._run, name="ray-train", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._value = self._call()
        except BaseException as error:
            self._error = error

    def over(self, timeout_s: float) -> bool:
        """Whether it has ended, waiting so long at most."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def result(self) -> Any:
        """Its value; raises what it raised."""
        if self._error is not None:
            raise self._error
        return self._value


def _sentence(error: Exception, attempts: int) -> Exception:
    """The worker's own UserError where there is one, else a line that says what to do."""
    causes = list(getattr(error, "worker_failures", {}).values()) or [getattr(error, "controller_failure", error)]
    causes = [getattr(cause, "_base_exc", cause) for cause in causes]
    told = next((cause for cause in causes if isinstance(cause, UserError)), None)
    if told is not None:
        return told
    return FailedError(
        f"pretrain: workers failed {attempts} times, at last with {type(causes[0]).__name__}: {first_line(causes[0])}; "
        "the same command goes on from the last checkpoint"
    )


@ray.remote(max_retries=2)
def _score(
    out: str, manifest: ExpertsManifest, seed: int, config: RunConfig, cache_folder: str, threads: int, precision: str
) -> float:
    torch.set_num_threads(threads)
    device = torch.device("cuda") if ray.get_gpu_ids() and torch.cuda.is_available() else torch.device("cpu")
    test = ClassCache(cache_folder, config.data).test_set(config.evaluate.on)
    return accuracy(trained_network(out, manifest, seed).to(device), test, precision=resolve(precision, device))


def _scored(
    config: RunConfig, out: str, cache: ClassCache, manifest: ExpertsManifest, shares: Shares
) -> dict[str, Any]:
    records = {record["seed"]: record for record in manifest["trajectories"]}
    seeds = range(config.pretrain.trajectories)
    task = _score.options(num_cpus=shares.cpus, num_gpus=shares.gpus)
    calls = [
        partial(task.remote, out, manifest, seed, config, cache.folder, shares.threads, records[seed]["precision"])
        for seed in seeds
    ]
    scores: dict[int, float] = {}
    with Display("score", len(calls)) as display:
        for seed, score in results(calls, shares.workers, "pretrain"):
            if seed >= 0:
                scores[seed] = score
            display.update(len(scores), f"{len(scores)}/{len(calls)} networks")
    accuracies = [scores[seed] for seed in seeds]
    row = {
        "set": SET,
        "architecture": config.pretrain.architecture,
        "protocol": SCHEDULE,
        "schedule": SCHEDULE,
        "knobs": {key: to_dict(config)["pretrain"][key] for key in RULE if key != "architecture"},
        "mean": statistics.fmean(accuracies),
        "std": statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0,
        "accuracies": accuracies,
        "seeds": list(seeds),
        "on": config.evaluate.on,
        "epochs": config.pretrain.epochs,
        "epoch": "last",
        "flip": "flip" in config.pretrain.training.augment.operations,
        "images_per_class": None,
        "images": training_images(cache),
        "precision": ", ".join(sorted({records[seed]["precision"] for seed in seeds})),
        "compiled": all(records[seed]["compiled"] for seed in seeds),
        "experts": seal_of(manifest),
        "commit": manifest.get("commit"),
    }
    write_rows(out, [row])
    return row


def _held_row(config: RunConfig, out: str, manifest: ExpertsManifest) -> dict[str, Any] | None:
    """The row that answers for these very networks, or None."""
    asked = {
        "set": SET,
        "architecture": config.pretrain.architecture,
        "schedule": SCHEDULE,
        "on": config.evaluate.on,
        "experts": seal_of(manifest),
        "seeds": list(range(config.pretrain.trajectories)),
    }
    return next((row for row in read_rows(out) if all(row.get(key) == value for key, value in asked.items())), None)
