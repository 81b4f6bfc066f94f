"""The base of the condense stage's events: typed values that travel from a worker to its driver and become lines of logs."""

import json
import time
from dataclasses import MISSING, dataclass, fields
from typing import ClassVar

UNLOGGED = {"logged": False}
"""Metadata of a field that log lines leave out."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened. A subclass names its kind and declares its fields in the order of the log line."""

    kind: ClassVar[str]
    """Name of the event in logs."""

    def logged(self) -> dict[str, object]:
        """The fields of a log line, in their order. A field with a default is left out while it has that default."""
        shown = (field for field in fields(self) if field.metadata.get("logged", True))
        values = ((field.name, getattr(self, field.name), field.default) for field in shown)
        return {name: value for name, value, default in values if default is MISSING or value != default}


def log_line(**entries: object) -> str:
    """A line of JSON that begins with the time, in seconds since 1970."""
    return json.dumps({"time": round(time.time(), 3), **entries})
