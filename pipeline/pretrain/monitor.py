"""Turns the events of ``pretrain``'s workers into its display and into lines of events.jsonl."""

import json
import time
from typing import Any

from pipeline import storage
from pipeline.config.run_config import Pretrain
from pipeline.observability import jsonl_log
from pipeline.observability.progress import Display


class PretrainMonitor:
    """Called with the events that came in since the last time."""

    def __init__(self, display: Display, out: str, pretrain: Pretrain, steps: int) -> None:
        """Args: ``steps`` of one epoch."""
        self.display, self.out, self.pretrain, self.steps = display, out, pretrain, steps
        self.at = 0
        self.groups, self.begun, self.loss = 0, False, ""
        self.refused = ""
        """Why the workers gave up, where another start would end like this one."""

    def __call__(self, events: list[dict[str, Any]]) -> None:
        for event in events:
            if event["event"] != "progress":
                line = {"time": round(time.time(), 3), "stage": "pretrain", **event}
                jsonl_log.append(storage.join(self.out, "events.jsonl"), json.dumps(line))
            self._seen(event)
        if self.begun:
            self.display.update(self.at, self._status())

    def _seen(self, event: dict[str, Any]) -> None:
        kind = event["event"]
        if kind == "refused":
            self.refused = event["why"]
            return
        if kind == "worker":
            self.groups += event["rank"] == 0
            if event["rank"] == 0 and self.groups > 1:
                self.display.note(
                    "pretrain: a worker was lost; all were started again and go on from the last checkpoint"
                )
            return
        self.at = (event["seed"] * self.pretrain.epochs + event["epoch"]) * self.steps + event.get("step", 0)
        if kind == "begin" and not self.begun:
            self.begun = True
            self.display.start_at(self.at)
        if kind == "begin" and event["epoch"]:
            self.display.note(f"pretrain: seed {event['seed']} goes on after epoch {event['epoch']}")
        if kind == "epoch":
            self.loss = f", loss {event['loss']:.4f}"

    def _status(self) -> str:
        whole = self.pretrain.trajectories
        seed, rest = divmod(
            min(self.at, whole * self.pretrain.epochs * self.steps - 1), self.pretrain.epochs * self.steps
        )
        of = f"network {seed + 1}/{whole}, " if whole > 1 else ""
        done = -(-(rest + 1) // self.steps)
        return f"{of}epoch {done}/{self.pretrain.epochs}{self.loss}"
