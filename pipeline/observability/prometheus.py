"""What Ray exports of a run for Prometheus: the driver sets it, as it hears of everything.

The names below are those of the code; Ray puts ``ray_`` before them, and ``_total`` behind a counter's.
"""

import time
from typing import Any

from ray.util.metrics import Counter, Gauge

NAMES = {
    "m3d_groups": "groups of the run",
    "m3d_groups_done": "groups that are finished",
    "m3d_iterations_per_second": "iterations of all groups together, since this call began",
    "m3d_loss": "mean loss of a group's classes, at its last log iteration",
    "m3d_images_per_second": "real and synthetic images that a group computes with",
    "m3d_checkpoint_age_seconds": "since the last checkpoint of a group; 0 when it is finished",
    "m3d_retries": "groups that were begun again after a lost actor",
}
OF_A_GROUP = ("m3d_loss", "m3d_images_per_second", "m3d_checkpoint_age_seconds")


class RunMetrics:
    """The metrics of one run, tagged with its name, and where they are of a group with that one's number."""

    def __init__(self, run: str, groups: int, done: int) -> None:
        self._run, self._done = {"run": run}, done
        self._gauges = {
            name: Gauge(name, text, ("run", "group") if name in OF_A_GROUP else ("run",))
            for name, text in NAMES.items()
            if name != "m3d_retries"
        }
        self._retries = Counter("m3d_retries", NAMES["m3d_retries"], ("run",))
        self._held: dict[tuple[str, int | None], float] = {}
        self._saved_at: dict[int, float] = {}
        self._set("m3d_groups", groups)
        self._set("m3d_groups_done", done)

    def rate(self, iterations_per_s: float) -> None:
        """Iterations per second of all groups."""
        self._set("m3d_iterations_per_second", iterations_per_s)

    def again(self) -> None:
        """Sets everything once more: Ray drops a gauge that was not set in the last two of its intervals."""
        for (name, group), value in list(self._held.items()):
            self._set(name, value, group)
        for group, saved_at in self._saved_at.items():  # it grows while an actor is silent, or none is there
            self._set("m3d_checkpoint_age_seconds", time.monotonic() - saved_at, group)

    def event(self, group: int, event: dict[str, Any]) -> None:
        """What an event of a group says."""
        if event["event"] == "lost":
            self._retries.inc(1, self._run)
        if event["event"] in ("done", "lost", "failed", "stopped"):
            self._set("m3d_images_per_second", 0, group)
        if event["event"] == "done":
            self._done += 1
            self._set("m3d_groups_done", self._done)
            self._set("m3d_checkpoint_age_seconds", 0, group)
            self._saved_at.pop(group, None)
        elif "checkpoint_age_s" in event:
            self._saved_at[group] = time.monotonic() - event["checkpoint_age_s"]
            self._set("m3d_checkpoint_age_seconds", event["checkpoint_age_s"], group)
        for _, losses, rate in event.get("losses", ())[-1:]:
            self._set("m3d_loss", sum(losses) / len(losses), group)
            self._set("m3d_images_per_second", rate, group)

    def _set(self, name: str, value: float, group: int | None = None) -> None:
        tags = self._run if group is None else {**self._run, "group": str(group)}
        self._held[name, group] = value
        self._gauges[name].set(value, tags)
