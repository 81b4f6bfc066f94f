"""The condense stage: class shards in, a committed condensed set out."""

import json
import time
from typing import Any

from m3d.execution import Execution
from pipeline import object_log, ray_setup, s3, storage
from pipeline.class_cache import ClassCache
from pipeline.config import RunConfig
from pipeline.documents import ExecutionEntry, RunRecord
from pipeline.drive import drive
from pipeline.errors import FailedError, UserError, first_line
from pipeline.group_task import GroupTask
from pipeline.ledger import Ledger, read_run
from pipeline.metrics import RunMetrics
from pipeline.plan import Placement, capacity, does_not_fit, fits, smallest_gpu, stored_placement
from pipeline.progress import Display, say
from pipeline.record import add_commit, condensed_manifest, identity, new_record, shard_metadata, write_record
from pipeline.scalars import Scalars


def condense(config: RunConfig, out: str, cache_folder: str) -> None:
    """Condenses all classes and commits the set; goes on where an earlier call of the same run ended.

    Args:
        config: of the run.
        out: the run's folder, absolute.
        cache_folder: class shards, as ``prepare`` returned it.

    Raises:
        UserError: no node that can hold an actor, or a loss that is not finite.
        FailedError: a group failed for another reason; the others are finished.
        Interrupted: after Ctrl-C or SIGTERM.
    """
    cache = ClassCache(cache_folder, config.data)
    ray_setup.start(config.resources)
    record = read_run(out)
    placement = _placement(config, len(cache.classes), record)
    if record is None:
        record = new_record(config, cache, placement)
        write_record(out, record)
    ledger = Ledger(out, identity(record))
    ledger.sweep()
    todo = [group for group in range(len(placement.groups)) if not ledger.finished(group)]
    if todo and add_commit(record):
        write_record(out, record)
    _say_plan(config, placement, todo)
    if todo:
        failed = _drive(config, out, cache, record, placement, todo)
        if failed:
            _raise(failed, len(placement.groups))
    ledger.commit(len(placement.groups), condensed_manifest(config, cache, record))
    say(
        f"condensed set: {len(cache.classes)} classes x {config.condense.images_per_class} images in {storage.join(out, 'condensed')}"
    )


def _drive(
    config: RunConfig, out: str, cache: ClassCache, record: RunRecord, placement: Placement, todo: list[int]
) -> dict[int, BaseException]:
    decided = record["resolved"]["execution"]
    task = GroupTask(
        config=config,
        out=out,
        cache=cache.folder,
        groups=placement.groups,
        identity=identity(record),
        threads=placement.threads,
        metadata=shard_metadata(config, cache, record),
        execution=Execution.from_dict(decided) if decided else None,
        share=-(-len(cache.classes) // placement.actors),
        gpu_share=min(1.0, placement.gpus_per_actor),
        neighbours=_neighbours(placement),
        gpu_memory=smallest_gpu(ray_setup.measured_nodes(config.resources)) if placement.gpus_per_actor else 0.0,
        run=_run_name(out, record),
    )
    iterations = config.condense.iterations
    with Display("condense", len(placement.groups) * iterations) as display:
        watch = _Watch(display, placement, todo, iterations, out, record)
        grow = (
            None
            if config.resources.actors
            else lambda: capacity(placement.cpus_per_actor, placement.gpus_per_actor, ray_setup.nodes())
        )
        try:
            return drive(task, todo, placement, config.resources, watch, capacity=grow)
        finally:
            watch.scalars.close()


class _Watch:
    """Turns events into the display, the run's log of metrics, and notes."""

    def __init__(
        self, display: Display, placement: Placement, todo: list[int], iterations: int, out: str, record: RunRecord
    ) -> None:
        self.display, self.placement, self.iterations, self.out, self.record = (
            display,
            placement,
            iterations,
            out,
            record,
        )
        done = len(placement.groups) - len(todo)
        self.at = dict.fromkeys(todo, 0)
        self.started_at: dict[int, int] = {}
        self.made, self.told_room = 0, False
        self.finished, self.before, self.losses = done, done * iterations, {}
        self.began = time.monotonic()
        self.run, self.scalars = _run_name(out, record), Scalars(out)
        self.metrics = RunMetrics(self.run, len(placement.groups), done)
        display.start_at(self.before)

    def __call__(self, group: int | None, event: dict[str, Any]) -> None:
        kind = event["event"]
        if kind == "tick":
            self.metrics.rate(self._rate())
            self.metrics.again()
            return
        if kind != "progress" or group not in self.started_at:
            self._note(group, event)
        if kind == "execution":
            self.display.note(event["why"])
            self._decided(event["execution"])
            return
        if group is None:
            self._actor(kind, event)
            return
        self.metrics.event(group, event)
        if kind == "lost":  # what begins again is worth a line in events.jsonl
            self.made += self.at[group] - self.started_at.pop(group, self.at[group])
        if kind == "failed":
            self.display.note(f"group {group} failed: {event['why']}")
        s3.add_retries(event.get("retries", 0))
        if "iteration" in event:
            if group not in self.started_at:
                self.started_at[group] = event["iteration"]
            self.at[group] = event["iteration"]
        if kind == "done":
            self.finished += 1
        if event.get("losses"):
            self.losses[group] = event["losses"][-1][1]
        self._log(group, event)
        self.display.update(self.before + sum(self.at.values()), self._status())

    def _actor(self, kind: str, event: dict[str, Any]) -> None:
        if kind == "ready" and not self.told_room:
            self.told_room = True
            self.display.note(event["room"])
        if kind == "ready" and self.record["resolved"]["execution"] is None:
            # What the first device chooses holds for the run, also when it goes on elsewhere.
            self.record["resolved"]["device"] = event["device"]
            self._decided(event["execution"])
            if event["note"]:
                self.display.note(event["note"])
            elif event["execution"]["compiled"]:
                self.display.note(
                    "compiling the encoder: under a minute, or a few seconds where it is kept from before"
                )
        elif kind == "lost":
            self.display.note(f"an actor was lost ({event['why']}); a new one takes its place")
        elif kind == "waiting":
            self.display.note(self._starting(event["starting"]) if event["starting"] else self._waiting())
        elif kind == "leaving":
            self.display.note("stopping: saving checkpoints")

    def _decided(self, execution: ExecutionEntry) -> None:
        self.record["resolved"]["execution"] = execution
        write_record(self.out, self.record)

    def _note(self, group: int | None, event: dict[str, Any]) -> None:
        """What happens rarely goes to events.jsonl: actors, beginnings (with the iteration resumed at) and ends."""
        kept = {key: value for key, value in event.items() if key not in ("losses", "event")}
        named = "begin" if event["event"] == "progress" else event["event"]
        entry = {"time": round(time.time(), 3), "event": named, "run": self.run, "group": group, **kept}
        object_log.append(storage.join(self.out, "events.jsonl"), json.dumps(entry))

    def _starting(self, actors: int) -> str:
        return f"{actors} {'actor is' if actors == 1 else 'actors are'} starting; it takes longer where their nodes are busy"

    def _waiting(self) -> str:
        """What is waited for, and how much of it the cluster has: "8 groups wait for 1 GPU each; ..."."""
        needs = (("CPU", self.placement.cpus_per_actor), ("GPU", self.placement.gpus_per_actor))
        needed = [(name, share) for name, share in needs if share]
        each = " and ".join(f"{share:g} {name}{'s' if share > 1 else ''}" for name, share in needed)
        held = [(name, *ray_setup.free(name)) for name, _ in needed]
        free = " and ".join(f"{have:g} of {total:g} {name}s" for name, have, total in held)
        left = len(self.placement.groups) - self.finished
        return f"{left} {'group waits' if left == 1 else 'groups wait'} for {each} each; the cluster has {free} free"

    def _rate(self) -> float:
        made = self.made + sum(self.at[group] - start for group, start in self.started_at.items())
        return made / max(1e-9, time.monotonic() - self.began)

    def _status(self) -> str:
        parts = [f"{self.finished}/{len(self.placement.groups)} groups", f"{self._rate():.1f} it/s"]
        values = [value for losses in self.losses.values() for value in losses]
        return ", ".join(parts + ([f"loss {sum(values) / len(values):.4f}"] if values else []))

    def _log(self, group: int, event: dict[str, Any]) -> None:
        labels = self.placement.groups[group]
        for iteration, losses, rate in event.get("losses", ()):
            entry = {
                "time": round(time.time(), 3),
                "seconds": round(time.monotonic() - self.began, 3),
                "group": group,
                "iteration": iteration,
                "loss": dict(zip(map(str, labels), losses, strict=True)),
                "images_per_s": rate,
            }
            object_log.append(storage.join(self.out, "metrics.jsonl"), json.dumps(entry))
            self.scalars.add(f"loss/group-{group:05d}", sum(losses) / len(losses), iteration)
            self.scalars.add(f"images_per_second/group-{group:05d}", rate, iteration)


def _neighbours(placement: Placement) -> int:
    """Actors that one node may hold at a time."""
    most = max(capacity(placement.cpus_per_actor, placement.gpus_per_actor, [node]) for node in ray_setup.nodes())
    return max(1, min(most, placement.actors))


def _run_name(out: str, record: RunRecord) -> str:
    """How logs and metrics call the run: its folder, and the beginning of its identity."""
    return f"{out.rstrip('/').rsplit('/', 1)[-1]}-{identity(record)[:8]}"


def _placement(config: RunConfig, classes: int, record: RunRecord | None) -> Placement:
    placement = ray_setup.placement(config, classes)
    if record is None:
        return placement
    placement = stored_placement(record["resolved"]["placement"], placement, config.resources)
    if not fits(placement, ray_setup.nodes()) and not ray_setup.autoscales():
        raise does_not_fit(placement.cpus_per_actor, placement.gpus_per_actor, ray_setup.nodes())
    wanted = config.resources.classes_per_group
    if wanted and wanted != max(map(len, placement.groups)):
        say(f"resources.classes_per_group={wanted} is not used: this run's groups were decided when it began")
    return placement


def _say_plan(config: RunConfig, placement: Placement, todo: list[int]) -> None:
    groups = len(placement.groups)
    before = f", {groups - len(todo)} of them finished before" if len(todo) < groups else ""
    each = f"{placement.cpus_per_actor:g} CPUs" + (
        f" and {placement.gpus_per_actor:g} GPUs" if placement.gpus_per_actor else ""
    )
    sizes = max(map(len, placement.groups))
    say(
        f"condense: {groups} groups of up to {sizes} classes{before}, {config.condense.iterations} iterations, on {placement.actors} actors with {each} each"
    )


def _raise(failed: dict[int, BaseException], groups: int) -> None:
    mistakes = [error for error in failed.values() if isinstance(error, UserError)]
    first = mistakes[0] if mistakes else next(iter(failed.values()))
    told = (
        f"{first_line(first)} ({len(failed)} of {groups} groups failed; the same command takes up only what is missing)"
    )
    raise (UserError if mistakes else FailedError)(told) from first
