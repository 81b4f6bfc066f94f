"""What stages call to have something tracked. Without ``report.loggers``, nothing happens."""

import contextlib
import importlib.util
import time
from collections.abc import Iterator, Mapping, Sequence

from pipeline.errors import Interrupted, UserError
from pipeline.observability.progress import observed_by
from pipeline.observability.trackers import tracker
from pipeline.observability.trackers.batch import Batch, Point
from pipeline.observability.trackers.tracker import Tracker

_trackers: list[Tracker] = []


def require_installed(key: str, loggers: Sequence[str]) -> None:
    """Raises UserError if a tracker is asked for and its package is not installed. ``key`` is the setting that asks."""
    for name in loggers:
        spec = importlib.util.find_spec(name)
        # Without an origin it is a folder, such as the one that W&B leaves where it ran.
        if spec is None or spec.origin is None:
            raise UserError(f"{key}: {name} is not installed; run `pip install {name}`, or leave it out")


@contextlib.contextmanager
def tracked_by(loggers: Sequence[str], *, name: str, document: str) -> Iterator[None]:
    """Tracks what happens within a ``with`` block, and the progress of its stages.

    Args:
        loggers: names of the trackers; none tracks nothing.
        name: of the run.
        document: path of trackers.json.
    """
    if not loggers:
        yield
        return
    _trackers.extend(Tracker(kind, name, document) for kind in dict.fromkeys(loggers))
    outcome = "failed"
    try:
        with observed_by(_StageProgress()):
            yield
        outcome = "finished"
    except (Interrupted, KeyboardInterrupt):
        outcome = "interrupted"
        raise
    finally:
        _put(Batch(outcome=outcome))
        ends = time.monotonic() + tracker.CLOSE_S
        while _trackers:
            _trackers.pop(0).wait(max(0.1, ends - time.monotonic()))


def track(name: str, value: float, step: int, axis: str) -> None:
    """Adds a point to a curve; ``axis`` says what the step counts, such as iteration or epoch."""
    if _trackers:
        _put(Batch(points=(Point(name=name, value=value, step=step, axis=axis, time=time.time()),)))


def track_settings(values: Mapping[str, object]) -> None:
    """Adds settings by section, as ``to_dict`` gives them. They must not say where anything is."""
    if _trackers:
        _put(Batch(settings=dict(_flat(values))))


def track_results(values: Mapping[str, float]) -> None:
    """Sets numbers that the run ends with, by name."""
    if _trackers and values:
        _put(Batch(results=dict(values)))


def _put(batch: Batch) -> None:
    for each in _trackers:
        each.put(batch)


def _flat(values: Mapping[str, object], before: str = "") -> Iterator[tuple[str, str | int | float | bool]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value if isinstance(value, str | int | float | bool) else str(value)


class _StageProgress:
    """Tracks a stage's seconds, those passed and those left, over its per cent: at most 101 points each."""

    def __init__(self) -> None:
        self._began: dict[str, float] = {}
        self._percent: dict[str, int] = {}

    def __call__(self, stage: str, done: float, seconds_left: float | None) -> None:
        """Observes a display."""
        began = self._began.setdefault(stage, time.monotonic())
        percent = int(100 * min(1.0, done))
        if percent == self._percent.get(stage):
            return
        self._percent[stage] = percent
        track(f"stage/{stage}/seconds", time.monotonic() - began, percent, "percent")
        if seconds_left is not None:
            track(f"stage/{stage}/seconds_left", seconds_left, percent, "percent")
