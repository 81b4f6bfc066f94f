"""A live progress display. Without a terminal it prints plain lines."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Self

from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.segment import Segment

from pipeline.errors import printable

PLAIN_EVERY_S = 5.0
"""Seconds between two plain lines while units get done. Without progress the interval is six times as long."""


Observer = Callable[[str, float, float | None], None]
"""Receives the title of a display, the fraction that is done, and the estimated seconds left, if they are known."""
_observers: list[Observer] = []


@contextlib.contextmanager
def observed_by(observer: Observer) -> Iterator[None]:
    """Calls the observer at every update of a display within a ``with`` block."""
    _observers.append(observer)
    try:
        yield
    finally:
        _observers.remove(observer)


class _PrintableConsole(Console):
    """A console that obeys no control characters in what it prints: names and errors come from files of others."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=printable(segment.text))


def console() -> Console:
    """The console for everything that is not data."""
    return _PrintableConsole(highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """Prints one line for the user."""
    console().print(text, markup=False)


class Display:
    """A progress bar with a status text. Without a terminal it prints a line every five seconds."""

    def __init__(self, title: str, total: float) -> None:
        """Args: the title of the bar, and the number of units that it counts."""
        self.title, self.total, self.status = title, total, ""
        self.done: float = 0
        self._began = self._printed = time.monotonic()
        self._begun_at: float = 0
        self._shown: tuple[float, str] | None = None
        self._bar: Progress | None = None
        if sys.stdout.isatty():
            columns = [
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.percentage:>3.0f}%"),
                TextColumn("{task.fields[status]}"),
            ]
            self._bar = Progress(
                *columns, TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), console=console()
            )
            self._task = self._bar.add_task(title, total=total, status="")

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()
        elif error is None and (self.done, self.status) != self._shown:
            self._line()

    def start_at(self, done: float) -> None:
        """Sets the units that were done before. They do not count towards the estimate of the time left."""
        self.done = self._begun_at = done
        self._began = time.monotonic()

    def update(self, done: float, status: str) -> None:
        """Shows the units done so far and a status text."""
        patience = PLAIN_EVERY_S if done > self.done else 6 * PLAIN_EVERY_S
        self.done, self.status = done, status
        for observer in _observers:
            observer(self.title, done / max(self.total, 1e-9), self.seconds_left())
        if self._bar:
            self._bar.update(self._task, completed=done, status=status)
        elif time.monotonic() - self._printed >= patience:
            self._line()

    def note(self, text: str) -> None:
        """Prints a line above the bar."""
        (self._bar.console if self._bar else console()).print(text, markup=False)

    def seconds_left(self) -> float | None:
        """Estimated seconds left at the rate since the start; None before the first unit is done."""
        done, spent = self.done - self._begun_at, time.monotonic() - self._began
        return (self.total - self.done) * spent / done if done > 0 else None

    def _line(self) -> None:
        self._printed, self._shown = time.monotonic(), (self.done, self.status)
        left = self.seconds_left()
        tail = f", {clock(left)} left" if left else ""
        share = 100 * self.done / max(1, self.total)
        console().print(
            f"{self.title}: {share:.0f}%, {self.status}{tail}" if self.status else f"{self.title}: {share:.0f}%{tail}",
            markup=False,
        )


def about(seconds: float) -> str:
    """Seconds in words, for estimates: ``40 s``, ``12 min``, ``2.5 h`` or ``6 days``."""
    for unit, length, most in (("s", 1, 90), ("min", 60, 90), ("h", 3600, 72)):
        amount = seconds / length
        if amount < most:
            precise = unit == "h" and amount < 10
            return f"{amount:.1f} {unit}" if precise else f"{max(1, round(amount))} {unit}"
    return f"{round(seconds / 86400)} days"


def clock(seconds: float) -> str:
    """Seconds as ``1:02:03`` or ``2:03``."""
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
