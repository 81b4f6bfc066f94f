"""What is shown and logged while groups are condensed."""

import json
import time
from typing import Any

from pipeline.condense.manifest import run_name
from pipeline.formats.run_folder import RunFolder
from pipeline.formats.run_record import ExecutionEntry, RunRecord
from pipeline.observability import jsonl_log
from pipeline.observability.progress import Display
from pipeline.observability.prometheus import RunMetrics
from pipeline.observability.tensorboard_writer import Scalars
from pipeline.runtime import nodes
from pipeline.runtime.placement import Placement
from pipeline.storage import s3


class CondenseMonitor:
    """Turns events into the display, the run's log of metrics, and notes."""

    def __init__(
        self,
        display: Display,
        placement: Placement,
        todo: list[int],
        iterations: int,
        folder: RunFolder,
        record: RunRecord,
    ) -> None:
        self.display, self.placement, self.iterations, self.folder, self.record = (
            display,
            placement,
            iterations,
            folder,
            record,
        )
        done = len(placement.groups) - len(todo)
        self.at = dict.fromkeys(todo, 0)
        self.started_at: dict[int, int] = {}
        self.made, self.told_room = 0, False
        self.finished, self.before, self.losses = done, done * iterations, {}
        self.began = time.monotonic()
        self.run, self.scalars = run_name(folder, record), Scalars(folder.path)
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
        self.folder.write_record(self.record)

    def _note(self, group: int | None, event: dict[str, Any]) -> None:
        """What happens rarely goes to events.jsonl: actors, beginnings (with the iteration resumed at) and ends."""
        kept = {key: value for key, value in event.items() if key not in ("losses", "event")}
        named = "begin" if event["event"] == "progress" else event["event"]
        entry = {"time": round(time.time(), 3), "event": named, "run": self.run, "group": group, **kept}
        jsonl_log.append(self.folder.events, json.dumps(entry))

    def _starting(self, actors: int) -> str:
        return f"{actors} {'actor is' if actors == 1 else 'actors are'} starting; it takes longer where their nodes are busy"

    def _waiting(self) -> str:
        """What is waited for, and how much of it the cluster has: "8 groups wait for 1 GPU each; ..."."""
        needs = (("CPU", self.placement.cpus_per_actor), ("GPU", self.placement.gpus_per_actor))
        needed = [(name, share) for name, share in needs if share]
        each = " and ".join(f"{share:g} {name}{'s' if share > 1 else ''}" for name, share in needed)
        held = [(name, *nodes.free(name)) for name, _ in needed]
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
            jsonl_log.append(self.folder.metrics, json.dumps(entry))
            self.scalars.add(f"loss/group-{group:05d}", sum(losses) / len(losses), iteration)
            self.scalars.add(f"images_per_second/group-{group:05d}", rate, iteration)
