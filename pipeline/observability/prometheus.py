"""The metrics that Ray exports of a run for Prometheus. The driver sets them.

Ray adds ``ray_`` before the names below, and ``_total`` after the name of a counter.
"""

import time

import ray
from ray.util.metrics import Counter, Gauge

NAMES = {
    "m3d_groups": "groups of the run",
    "m3d_groups_done": "groups that are finished",
    "m3d_iterations_per_second": "iterations of all groups together, since this call began",
    "m3d_loss": "mean loss of a group's classes, at its last log iteration",
    "m3d_images_per_second": "real and synthetic images that a group computes with",
    "m3d_checkpoint_age_seconds": "since the last checkpoint of a group; 0 when it is finished",
    "m3d_retries": "groups that were begun again after a lost actor",
    "m3d_stage_done": "fraction of a stage that is done, from 0 to 1: prepare, pretrain, condense, evaluate and others",
    "m3d_stage_seconds_left": "estimated seconds that the stage still takes",
}
"""Description of every metric."""
OF_A_GROUP = ("m3d_loss", "m3d_images_per_second", "m3d_checkpoint_age_seconds")
"""Metrics that are tagged with the number of a group."""
OF_A_STAGE = ("m3d_stage_done", "m3d_stage_seconds_left")
"""Metrics of every stage that shows its progress, tagged with the name of OUT and that of the stage."""


class StageMetrics:
    """Progress of the stages of one command; observes the displays."""

    def __init__(self, out: str) -> None:
        """Creates no metric yet, since Ray may not have been started. Args: the name of the folder of the run."""
        self._out = out
        self._gauges: dict[str, Gauge] = {}

    def __call__(self, stage: str, done: float, seconds_left: float | None) -> None:
        """Sets the progress of a stage, if Ray has been started."""
        if not ray.is_initialized():
            return
        if not self._gauges:
            self._gauges = {name: Gauge(name, NAMES[name], ("out", "stage")) for name in OF_A_STAGE}
        tags = {"out": self._out, "stage": stage}
        self._gauges["m3d_stage_done"].set(min(1.0, done), tags)
        if seconds_left is not None:
            self._gauges["m3d_stage_seconds_left"].set(seconds_left, tags)


class RunMetrics:
    """The metrics of one run, tagged with its name. Those of a group are tagged with the group's number as well."""

    def __init__(self, run: str, groups: int, done: int) -> None:
        """Creates the metrics.

        Args:
            run: name of the run.
            groups: number of its groups.
            done: number of groups that earlier calls finished.
        """
        self._run, self._done = {"run": run}, done
        self._gauges = {
            name: Gauge(name, text, ("run", "group") if name in OF_A_GROUP else ("run",))
            for name, text in NAMES.items()
            if name not in ("m3d_retries", *OF_A_STAGE)
        }
        self._retries = Counter("m3d_retries", NAMES["m3d_retries"], ("run",))
        self._values: dict[tuple[str, int | None], float] = {}
        self._saved_at: dict[int, float] = {}
        self._set("m3d_groups", groups)
        self._set("m3d_groups_done", done)

    def rate(self, iterations_per_s: float) -> None:
        """Sets the iterations per second of all groups."""
        self._set("m3d_iterations_per_second", iterations_per_s)

    def measured(self, group: int, loss: float, images_per_s: float) -> None:
        """Sets a group's mean loss and its throughput."""
        self._set("m3d_loss", loss, group)
        self._set("m3d_images_per_second", images_per_s, group)

    def checkpointed(self, group: int, age_s: float) -> None:
        """Sets the age of a group's last checkpoint, which grows from now on."""
        self._saved_at[group] = time.monotonic() - age_s
        self._set("m3d_checkpoint_age_seconds", age_s, group)

    def idle(self, group: int) -> None:
        """Sets a group's throughput to zero, because no actor works on it."""
        self._set("m3d_images_per_second", 0, group)

    def finished(self, group: int) -> None:
        """Counts a finished group. It needs no checkpoint any more."""
        self._done += 1
        self._set("m3d_groups_done", self._done)
        self._set("m3d_checkpoint_age_seconds", 0, group)
        self._saved_at.pop(group, None)

    def retried(self) -> None:
        """Counts a group that begins again."""
        self._retries.inc(1, self._run)

    def refresh(self) -> None:
        """Sets all values again. Ray drops a gauge that was not set in the last two of its intervals."""
        for (name, group), value in list(self._values.items()):
            self._set(name, value, group)
        for group, saved_at in self._saved_at.items():  # grows while an actor is silent or absent
            self._set("m3d_checkpoint_age_seconds", time.monotonic() - saved_at, group)

    def _set(self, name: str, value: float, group: int | None = None) -> None:
        tags = self._run if group is None else {**self._run, "group": str(group)}
        self._values[name, group] = value
        self._gauges[name].set(value, tags)
