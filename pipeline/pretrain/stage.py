"""The pretrain stage: Ray Train trains networks on the full training set, and their snapshots are stored.

Ray Train places the workers, connects them, and starts them again when one dies. Checkpoints are the project's own
(``pipeline.pretrain.store``: complete objects of a known identity, local or by URL).
"""

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
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
from pipeline.pretrain.events import Event, Refused
from pipeline.pretrain.monitor import PretrainMonitor
from pipeline.pretrain.reader import ExpertsManifest, read_experts
from pipeline.pretrain.scaling import Shares, shares_of, steps_per_epoch, training_images
from pipeline.pretrain.store import ExpertStore, describe, identity_of, settings_of
from pipeline.pretrain.training import ExpertTask, RefusedError, Worker, train_trajectories
from pipeline.runtime import nodes, session, task_processes
from pipeline.runtime.devices import assigned_device
from pipeline.runtime.tasks import out_of_memory, ran_out_of_memory
from pipeline.runtime.watch import Watch
from pipeline.storage import arrow_files

POLL_S = 0.5
"""Seconds between two polls of Ray Train, for which every report waits; its own default is 2."""
START_S = 300.0
"""Seconds after which workers that have not started are started again; Ray Train's own minute is short on a busy machine."""
REFUSED_S = 60.0
"""Seconds in which the driver's channel must take the message of a worker that gives up."""
COLLECTIVE_S = 1800
"""Seconds for which a worker waits for the others."""


def pretrain(config: RunConfig, folder: RunFolder, dataset: PreparedDataset) -> tuple[ExpertsManifest, Shares]:
    """Trains the missing trajectories; resumes where an earlier call ended.

    Args:
        config: configuration of the run; ``pretrain`` has the settings of the training.
        folder: folder of the run.
        dataset: class shards of the run.

    Returns:
        The manifest of the stored networks, and the shares of the workers.

    Raises:
        UserError: the workers do not fit, the folder holds networks of other settings, or a loss is not finite.
        FailedError: workers died more often than ``resources.attempts`` allows.
    """
    session.start(config.resources)
    settings = settings_of(config, dataset)
    architecture, wanted = config.pretrain.architecture, config.pretrain.trajectories
    manifest = read_experts(folder, architecture)
    store = ExpertStore(folder, architecture, identity_of(settings))
    store.refuse_others(manifest, settings)
    shares = shares_of(config.pretrain, nodes.nodes())
    smallest_batch = min(config.pretrain.batch, training_images(dataset))
    if shares.workers > smallest_batch:
        raise UserError(
            f"pretrain.workers: {shares.workers} share batches of {smallest_batch} images; use fewer, or a larger pretrain.batch"
        )
    if manifest is None or any(store.finished(seed) is None for seed in range(wanted)):
        store.claim(settings, joined(store.commit or (manifest.get("commit") if manifest else None), commit()))
        _train(config, folder, dataset, store, shares)
        description = describe(config, dataset, settings)
        description["versions"], description["commit"] = versions(), store.commit
        manifest = store.publish(wanted, description)
        say(f"pretrain: {len(manifest['trajectories'])} trajectories of {architecture} in {store.folder}")
    else:
        say(f"pretrain: finished before, in {store.folder}")
    return manifest, shares


@ray.remote(num_cpus=0)
class _Events:
    """Carries events from the workers to the driver, which does not see Ray Train's own reports."""

    def __init__(self) -> None:
        self._waiting: list[Event] = []

    def put(self, event: Event) -> None:
        self._waiting.append(event)

    def take(self) -> list[Event]:
        taken, self._waiting = self._waiting, []
        return taken


def _train(config: RunConfig, folder: RunFolder, dataset: PreparedDataset, store: ExpertStore, shares: Shares) -> None:
    pretrain = config.pretrain
    each = f"{shares.cpus:g} CPUs" + (f" and {shares.gpus:g} GPUs" if shares.gpus else "")
    say(
        f"pretrain: {pretrain.trajectories} x {pretrain.architecture}, {pretrain.epochs} epochs, "
        f"on {shares.workers} {'worker' if shares.workers == 1 else 'workers'} with {each}"
    )
    task = ExpertTask(
        config=config, folder=folder, class_shards=dataset.folder, identity=store.identity, threads=shares.threads
    )
    events = _Events.remote()
    steps = steps_per_epoch(dataset, pretrain)
    total = pretrain.trajectories * pretrain.epochs * steps
    task_processes.end_idle()
    with Display("pretrain", total) as display, Watch(config.resources.stall_s, as_one=True) as watch:
        trainer = _trainer(task, shares, store, {"events": events, "heartbeat": watch.heartbeat})
        monitor = PretrainMonitor(display, folder, pretrain, steps)
        fitting = _InBackground(trainer.fit)
        while not fitting.over(1.0):
            monitor(_taken(events))
        monitor(_taken(events))
        if monitor.refused:
            store.disclaim()  # the message advises to change a setting
            raise UserError(monitor.refused)
        try:
            fitting.result()
        except ray.train.TrainingFailedError as error:
            raise _sentence(error, config.resources.attempts, watch) from error


def _taken(events: Any) -> Sequence[Event]:
    """The events since the last call; none if the actor is gone, since a training is worth more than its display."""
    try:
        return ray.get(events.take.remote(), timeout=30)
    except RayError:
        return []


def _trainer(task: ExpertTask, shares: Shares, store: ExpertStore, channels: Mapping[str, Any]) -> TorchTrainer:
    resources = task.config.resources
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", str(POLL_S))
    os.environ.setdefault("RAY_TRAIN_ENABLE_PRINT_PATCH", "0")  # the output of a worker would appear twice
    os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", str(max(START_S, resources.wait_s)))
    retries = resources.attempts - 1
    filesystem, folder = arrow_files.file_system(storage.join(store.folder, "ray"))
    return TorchTrainer(
        _loop,
        train_loop_config={"task": task, **channels},
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
            failure_config=ray.train.FailureConfig(max_failures=retries, controller_failure_limit=retries),
            worker_runtime_env=session.worker_environment() or None,
            logging_config=ray.train.LoggingConfig(log_level="ERROR"),
        ),
    )


def _loop(config: dict[str, Any]) -> None:
    """Runs in every worker."""
    context, task, events = ray.train.get_context(), config["task"], config["events"]
    part = Part(rank=context.get_world_rank(), world=context.get_world_size())
    # Logical GPUs of a test have no device. Ray Train shows every worker all GPUs of its node.
    device = get_device() if assigned_device().type == "cuda" else torch.device("cpu")
    worker = Worker(
        part=part,
        device=device,
        wrap=partial(prepare_model, move_to_device=False) if part.world > 1 else None,
        emit=lambda event: events.put.remote(event),
        report=lambda done: ray.train.report(asdict(done)),
    )
    try:
        with config["heartbeat"].beating():
            train_trajectories(task, worker)
    except RefusedError as error:  # every worker finds the same mistake, and would after another start: do not retry
        if part.rank != 0:
            return
        try:
            ray.get(events.put.remote(Refused(why=str(error))), timeout=REFUSED_S)
        except RayError:  # then as an error of this worker: it is the user's even so, after all attempts
            raise error from None


class _InBackground:
    """A call on another thread, so that the calling thread can show progress and receive an interrupt.

    On the main thread, Ray Train's ``fit`` would install a signal handler of its own, which swallows Ctrl-C.
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
        """Whether the call has ended; waits at most this long for its end."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def result(self) -> Any:
        """Returns the value of the call, or raises its exception."""
        if self._error is not None:
            raise self._error
        return self._value


def _sentence(error: Exception, attempts: int, watch: Watch | None = None) -> Exception:
    """The UserError of a worker if there is one, else a one-line error that says what to do."""
    causes = list(getattr(error, "worker_failures", {}).values()) or [getattr(error, "controller_failure", error)]
    causes = [getattr(cause, "_base_exc", cause) for cause in causes]
    user_error = next((cause for cause in causes if isinstance(cause, UserError)), None)
    if user_error is not None:
        return user_error
    starved = next((cause for cause in causes if ran_out_of_memory(cause)), None)
    if starved is not None:
        return out_of_memory("pretrain", starved, attempts)
    ids = [str(getattr(cause, "actor_id", "")) for cause in causes]
    silence = watch.silence_of(*ids) if watch is not None else ""
    why = silence or f"with {type(causes[0]).__name__}: {first_line(causes[0])}"
    return FailedError(
        f"pretrain: workers failed {attempts} times, at last {why}; "
        "repeat the command to resume from the last checkpoint"
    )
