"""A stand-in for Ray's gauges and counters."""

from typing import ClassVar

from pipeline.observability.prometheus import NAMES


class RecordingGauge:
    """Stands for a gauge and for a counter; stores values by the name and the tags."""

    values: ClassVar[dict[tuple[str, ...], float]] = {}

    def __init__(self, name: str, text: str, tags: tuple[str, ...]) -> None:
        assert text == NAMES[name]
        self.name, self.tags = name, tags

    def set(self, value: float, tags: dict[str, str]) -> None:
        """Stores a value."""
        assert set(tags) == set(self.tags)
        self.values[(self.name, *tags.values())] = value

    def inc(self, value: float, tags: dict[str, str]) -> None:
        """Adds to a value."""
        self.set(self.values.get((self.name, *tags.values()), 0) + value, tags)
