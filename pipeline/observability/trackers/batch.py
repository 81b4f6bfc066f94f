"""What the driver tells a tracker's process, as lines of JSON."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

MOST_POINTS = 100_000
"""Points that are kept for a tracker that does not answer; of more, the newest."""


@dataclass(frozen=True, kw_only=True)
class Opening:
    """The first line: which run it is."""

    name: str
    id: str | None
    """The tracker's own name of the run, if an earlier call of the command has begun it."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """A point of a curve."""

    name: str
    value: float
    step: int
    axis: str
    """What the step counts, such as iteration or epoch."""
    time: float
    """Seconds since 1970."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Every other line: what was measured since the one before."""

    points: tuple[Point, ...] = ()
    settings: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    """Settings of the run by key."""
    results: Mapping[str, float] = field(default_factory=dict)
    """Numbers that the run ends with, by name."""
    outcome: str = ""
    """How this call of the command ended: finished, failed or interrupted. Empty until then."""

    def joined(self, later: "Batch") -> "Batch":
        """Both batches as one."""
        return Batch(
            points=(*self.points, *later.points)[-MOST_POINTS:],
            settings={**self.settings, **later.settings},
            results={**self.results, **later.results},
            outcome=later.outcome or self.outcome,
        )


def line_of(message: Opening | Batch) -> str:
    """A message as a line."""
    return json.dumps(asdict(message)) + "\n"


def opening_of(line: str) -> Opening:
    """The message of the first line."""
    return Opening(**json.loads(line))


def batch_of(line: str) -> Batch:
    """The message of another line."""
    values = json.loads(line)
    return Batch(**{**values, "points": tuple(Point(**point) for point in values["points"])})
