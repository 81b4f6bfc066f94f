"""What the logs of a run tell: losses, throughput, and what happened to groups and actors."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NotRequired, TypeVar

from pydantic import FiniteFloat, TypeAdapter
from typing_extensions import TypedDict

from pipeline import storage
from pipeline.formats.run_folder import RunFolder
from pipeline.formats.run_record import RunRecord
from pipeline.observability.progress import clock
from pipeline.storage.local.regular_files import DOCUMENT_BYTES
from pipeline.workflow.report.settings import without_folders

T = TypeVar("T")


class LossLine(TypedDict):
    """A line of metrics.jsonl, as far as the page needs it."""

    iteration: int
    loss: dict[str, FiniteFloat]
    start_loss: NotRequired[dict[str, FiniteFloat]]
    images_per_s: NotRequired[FiniteFloat]


class EventLine(TypedDict):
    """A line of events.jsonl, as far as the page needs it."""

    time: FiniteFloat
    event: str
    stage: NotRequired[str]
    group: NotRequired[int | None]
    device: NotRequired[str]
    seconds: NotRequired[FiniteFloat]
    retries: NotRequired[int]
    why: NotRequired[str]


@dataclass(frozen=True, kw_only=True)
class Curve:
    """The mean over classes at rising iterations, with the range of nine in ten classes."""

    iterations: list[int]
    mean: list[float]
    low: list[float]
    high: list[float]


@dataclass
class _Tally:
    """What is added up while events are read."""

    first: float | None = None
    last: float = 0.0
    busy: float = 0.0
    """Seconds of all attempts."""
    begun: dict[int, float] = field(default_factory=dict)
    lost: int = 0
    failed: int = 0
    retries: int = 0
    attempts: int = 0
    compiling: float = 0.0
    devices: dict[str, int] = field(default_factory=dict)
    why: list[str] = field(default_factory=list)


def loss_lines(folder: RunFolder) -> list[LossLine]:
    """Returns the readable lines of metrics.jsonl; none if there is no file."""
    return list(_lines(folder.metrics, TypeAdapter(LossLine)))


def relative_loss(lines: list[LossLine]) -> Curve | None:
    """Returns losses over those of the starting images under the same encoder; None if the log has none of them."""
    ratios: dict[int, dict[str, float]] = {}
    for line in lines:
        start = line.get("start_loss", {})
        # An unbiased estimate may be zero or negative; a ratio says nothing then.
        found = {name: loss / start[name] for name, loss in line["loss"].items() if start.get(name, 0.0) > 1e-12}
        ratios.setdefault(line["iteration"], {}).update(found)
    return _curve(ratios)


def absolute_loss(lines: list[LossLine]) -> Curve | None:
    """Returns losses as they are logged, under another encoder at almost every point."""
    losses: dict[int, dict[str, float]] = {}
    for line in lines:
        losses.setdefault(line["iteration"], {}).update(line["loss"])
    return _curve(losses)


def throughput(lines: list[LossLine]) -> Curve | None:
    """Returns the images per second of a group: mean and range over the groups."""
    rates: dict[int, dict[str, float]] = {}
    for line in lines:
        if "images_per_s" in line:
            rates.setdefault(line["iteration"], {})[",".join(line["loss"])] = line["images_per_s"]
    return _curve(rates)


def history(folder: RunFolder, record: RunRecord) -> list[tuple[str, str]]:
    """Returns what condensing took, as names and texts; what the log does not tell is said to be unknown."""
    tally = _Tally()
    for line in _lines(folder.events, TypeAdapter(EventLine)):
        if line.get("stage", "condense") == "condense":
            _add(tally, line)
    placement = record["resolved"]["placement"]
    groups, actors = len(placement["groups"]), placement.get("actors")
    gpus = placement["gpus_per_actor"]
    share = f"{gpus:g} GPU per actor" if gpus else "no GPU was used"
    if tally.first is None:
        return [("Groups of classes", str(groups)), ("GPU share", share), ("Time", "unknown: no events.jsonl")]
    span = tally.last - tally.first
    slots = min(actors, groups) if actors else 0
    busy = f", busy for {min(100.0, 100 * tally.busy / (slots * span)):.0f} % of the time" if slots and span > 0 else ""
    devices = ", ".join(f"{name} ({count} starts)" if count > 1 else name for name, count in tally.devices.items())
    facts = [
        (
            "Time from the first actor to the last group",
            f"{clock(span)} h:min:s" if span >= 3600 else f"{clock(span)} min:s",
        ),
        ("Actors", f"{actors}{busy}" if actors else "unknown"),
        ("Devices", devices or "unknown"),
        ("GPU share", share),
        ("Groups of classes", f"{groups}, in {tally.attempts} attempts"),
        ("Actors lost and groups given back", str(tally.lost)),
        ("Groups that failed for good", f"{tally.failed}; repeated since" if tally.failed else "0"),
        ("Requests to the storage sent again", str(tally.retries)),
    ]
    facts += [("Compiling", f"{tally.compiling:.0f} s")] if tally.compiling else []
    facts += [("Reasons", "; ".join(map(without_folders, tally.why[:3])))] if tally.why else []
    return facts


def _add(tally: _Tally, line: EventLine) -> None:
    event, group, time = line["event"], line.get("group"), line["time"]
    if event == "ready":
        name = line.get("device", "unknown")
        tally.devices[name] = tally.devices.get(name, 0) + 1
    if event in ("ready", "begin") and tally.first is None:
        tally.first = time
    tally.last = max(tally.last, time)
    if event == "begin" and group is not None:
        tally.begun[group] = time
        tally.attempts += 1
    if event in ("done", "stopped", "lost", "failed") and group is not None and group in tally.begun:
        tally.busy += max(0.0, time - tally.begun.pop(group))
    tally.lost += event == "lost"
    tally.failed += event == "failed"
    tally.retries += line.get("retries", 0)
    tally.compiling += line.get("seconds", 0.0) if event == "compiled" else 0.0
    if event in ("lost", "failed") and line.get("why") and line.get("why") not in tally.why:
        tally.why.append(line.get("why", ""))


def _curve(by_iteration: dict[int, dict[str, float]]) -> Curve | None:
    """The curve over the iterations at which all classes have a value; None for fewer than two."""
    import numpy as np

    most = max((len(values) for values in by_iteration.values()), default=0)
    complete = [(at, list(values.values())) for at, values in sorted(by_iteration.items()) if len(values) == most > 0]
    if len(complete) < 2:
        return None
    ends = [np.quantile(values, (0.05, 0.95)) for _, values in complete]
    return Curve(
        iterations=[at for at, _ in complete],
        mean=[float(np.mean(values)) for _, values in complete],
        low=[float(low) for low, _ in ends],
        high=[float(high) for _, high in ends],
    )


def _lines(path: str, adapter: "TypeAdapter[T]") -> Iterator[T]:
    """The lines of a log that are what they should be."""
    try:
        lines = storage.read_bytes(path, DOCUMENT_BYTES).decode(errors="replace").splitlines()
    except FileNotFoundError:
        return
    for line in lines:
        with contextlib.suppress(ValueError):  # the last line of a run that was killed, or a damaged one
            value: Any = adapter.validate_json(line)
            yield value
