"""The pretrain stage: networks trained on the whole training set by Ray Train, their snapshots, and their accuracy.

Checkpoints are the project's own (``pipeline.pretrain.store``: whole objects of a known identity, local or by URL); Ray
Train places the workers, joins them, and starts them again when one dies.
"""

import os
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import ray
import ray.train
import torch
from ray.exceptions import RayError
from ray.train.torch import TorchConfig, TorchTrainer, get_device, prepare_model

from m3d.training.whole_set import Part
from pipeline import storage
from pipeline.config.run_config import RunConfig
from pipeline.data.prepared_dataset import PreparedDataset
from pipeline.errors import FailedError, UserError, first_line
from pipeline.formats.provenance import commit, joined, versions
from pipeline.formats.run_folder import RunFolder
from pipeline.observability.progress import Display, say
from pipeline.pretrain.monitor import PretrainMonitor
from pipeline.pretrain.reader import ExpertsManifest, read_experts
from pipeline.pretrain.scaling import Shares, shares_of, steps_per_epoch, training_images
from pipeline.pretrain.store import ExpertStore, about, identity_of, refuse_others, settings_of
from pipeline.pretrain.training import ExpertTask, RefusedError, Worker, train_trajectories
from pipeline.runtime import nodes, session
from pipeline.runtime.devices import device_of_actor
from pipeline.storage import arrow_files

POLL_S = 0.5
"""Seconds between two looks of Ray Train at its workers, each of which a report waits for; its own default is 2."""
START_S = 300.0
"""Seconds that workers have to start before they are started again; Ray Train's own minute is short on a busy machine."""
COLLECTIVE_S = 1800
"""Seconds that a worker waits for the others."""


def pretrain(config: RunConfig, folder: RunFolder, dataset: PreparedDataset) -> tuple[ExpertsManifest, Shares]:
    """Trains what is missing of the trajectories; goes on where an earlier call ended.

    Args:
        config: of the run; ``pretrain`` says how.
        folder: of the run.
        dataset: its class shards.

    Returns:
        The manifest of the stored networks, and what the workers take of the cluster.

    Raises:
        UserError: workers that do not fit, networks of other settings in the folder, or a loss that is not finite.
        FailedError: workers died more often than ``resources.attempts`` allows.
    """
    session.start(config.resources)
    out, cache = folder.path, dataset
    settings = settings_of(config, cache)
    architecture, wanted = config.pretrain.architecture, config.pretrain.trajectories
    manifest = read_experts(out, architecture)
    refuse_others(out, manifest, settings, architecture)
    shares = shares_of(config.pretrain, nodes.nodes())
    if shares.workers > min(config.pretrain.batch, training_images(cache)):
        raise UserError(
            f"pretrain.workers: {shares.workers} share batches of {min(config.pretrain.batch, training_images(cache))} images; use "
            "fewer, or a larger pretrain.batch"
        )
    store = ExpertStore(out, architecture, identity_of(settings))
    if manifest is None or any(store.finished(seed) is None for seed in range(wanted)):
        store.claim(settings, joined(store.commit or (manifest or {}).get("commit"), commit()))
        _train(config, out, cache, store, shares)
        said = {**about(config, cache, settings), "versions": versions(), "commit": store.commit}
        manifest = store.publish(wanted, said)
        say(f"pretrain: {len(manifest['trajectories'])} trajectories of {architecture} in {store.folder}")
    else:
        say(f"pretrain: finished before, in {store.folder}")
    return manifest, shares


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


def _train(config: RunConfig, out: str, cache: PreparedDataset, store: ExpertStore, shares: Shares) -> None:
    pretrain = config.pretrain
    each = f"{shares.cpus:g} CPUs" + (f" and {shares.gpus:g} GPUs" if shares.gpus else "")
    say(
        f"pretrain: {pretrain.trajectories} x {pretrain.architecture}, {pretrain.epochs} epochs, "
        f"on {shares.workers} {'worker' if shares.workers == 1 else 'workers'} with {each}"
    )
    task = ExpertTask(config=config, out=out, cache=cache.folder, identity=store.identity, threads=shares.threads)
    events = _Events.remote()
    trainer = _trainer(task, shares, config, store, events)
    with Display("pretrain", pretrain.trajectories * pretrain.epochs * steps_per_epoch(cache, pretrain)) as display:
        watch = PretrainMonitor(display, out, pretrain, steps_per_epoch(cache, pretrain))
        fitting = _InBackground(trainer.fit)
        while not fitting.over(1.0):
            watch(_taken(events))
        watch(_taken(events))
        if watch.refused:
            store.disclaim()  # its own advice is to change a setting
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


def _trainer(task: ExpertTask, shares: Shares, config: RunConfig, store: ExpertStore, events: Any) -> TorchTrainer:
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", str(POLL_S))
    os.environ.setdefault("RAY_TRAIN_ENABLE_PRINT_PATCH", "0")  # what a worker prints would appear twice
    os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", str(max(START_S, config.resources.wait_s)))
    again = config.resources.attempts - 1
    filesystem, folder = arrow_files.file_system(storage.join(store.folder, "ray"))
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
            name=f"pretrain-{store.identity[:12]}",
            storage_path=folder,
            storage_filesystem=filesystem,
            failure_config=ray.train.FailureConfig(max_failures=again, controller_failure_limit=again),
            worker_runtime_env=session.worker_environment() or None,
            logging_config=ray.train.LoggingConfig(log_level="ERROR"),
        ),
    )


def _loop(given: dict[str, Any]) -> None:
    """What every worker runs."""
    context, task, events = ray.train.get_context(), given["task"], given["events"]
    part = Part(rank=context.get_world_rank(), world=context.get_world_size())
    # Logical GPUs of a test have no device. Ray Train shows every worker all GPUs of its node.
    device = get_device() if device_of_actor().type == "cuda" else torch.device("cpu")
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
