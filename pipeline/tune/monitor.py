"""What a person sees of a search while it runs, and what the records are told of trials that end without a word."""

import contextlib
import time
from typing import Any

from ray.tune import Callback
from ray.tune.experiment.trial import Trial as TuneTrial

from pipeline import storage
from pipeline.errors import FailedError, UserError, first_line
from pipeline.observability.progress import Display
from pipeline.tune.results import accuracy_text, values_text
from pipeline.tune.task import TrialTask
from pipeline.tune.trial_store import Trial

CLOCK = "clock.json"
"""Of a search: the seconds that all calls have taken, for a time budget when Ray Tune's own state is lost."""
CLOCK_EVERY_S = 5.0

_OPEN: list[Display] = []
"""Displays of this process. A search that goes on has a TuneMonitor out of Tune's own files, which nobody else can reach."""


def close() -> None:
    """Closes what an interrupted search left open, so that the terminal has its cursor again."""
    while _OPEN:
        _OPEN.pop().__exit__(None, None, None)


def search_seconds(out: str) -> float:
    """Seconds that the calls of a search have taken so far, as far as they were written down."""
    try:
        return float(storage.read_json(storage.join(out, CLOCK))["seconds"])
    except (FileNotFoundError, UserError, KeyError, TypeError, ValueError):
        return 0.0


class TuneMonitor(Callback):
    """A bar over the trials, and a line for each that ends.

    It is pickled with the search and made again by a search that goes on, so it holds nothing but the task; the
    display is made where the experiment starts, and what it shows follows from Tune's own list of trials.
    """

    def __init__(self, task: TrialTask, trials: int, given: str, out: str) -> None:
        """Args: the task, the number of trials, the key of the given configuration's, whose state is kept, the folder."""
        self.task, self.total, self.given, self.out = task, trials, given, out
        self._spent = self._began = self._written = 0.0
        self._display: Display | None = None
        self._best = ""
        self._best_mean = -1.0

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_display": None}

    def setup(self, *_: Any, **__: Any) -> None:
        """Opens the display, and the clock of this call."""
        self._spent, self._began, self._written = search_seconds(self.out), time.monotonic(), time.monotonic()
        self._display = Display("tune", self.total).__enter__()
        _OPEN.append(self._display)

    def on_step_end(self, iteration: int, trials: list[TuneTrial], **_: Any) -> None:
        """Moves the bar, and writes the clock down every so often."""
        if time.monotonic() - self._written >= CLOCK_EVERY_S:
            self._write_clock()
        if self._display is None:
            return
        ended = [trial for trial in trials if trial.is_finished()]
        running = sum(trial.status == TuneTrial.RUNNING for trial in trials)
        parts = [f"{len(ended)}/{self.total} trials, {running} running"]
        self._display.update(len(ended), ", ".join([*parts, *([self._best] if self._best else [])]))

    def on_trial_complete(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **_: Any) -> None:
        """A trial that its scheduler stopped says so from here on, and its state goes: nobody goes on with it."""
        folder = self.task.folder(trial.config)
        held = folder.settle("stopped")
        if held is None:
            return
        if held.outcome in ("stopped", "failed") and held.key != self.given:
            folder.forget_state()
        self._note(held)

    def on_trial_error(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **_: Any) -> None:
        """A trial whose process died too often, or broke in a way that its values are not to blame for."""
        folder = self.task.folder(trial.config)
        folder.begin(trial.config)
        held = folder.settle("lost", _why(trial))
        if held is not None:
            self._note(held)

    def on_experiment_end(self, trials: list[TuneTrial], **_: Any) -> None:
        """Closes the display."""
        self._write_clock()
        self._display = None
        close()

    def _write_clock(self) -> None:
        self._written = time.monotonic()
        seconds = self._spent + self._written - self._began
        with contextlib.suppress(UserError, FailedError):  # a clock must not end the search
            storage.write_json(storage.join(self.out, CLOCK), {"seconds": round(seconds, 1)})

    def _note(self, held: Trial) -> None:
        last = held.last
        reached = f"{accuracy_text(last)} % after {last.iteration} iterations" if last else "no accuracy"
        if last and held.outcome == "finished" and last.mean > self._best_mean:
            self._best_mean, self._best = last.mean, f"best {accuracy_text(last)} %"
        if self._display is not None:
            why = f" ({held.why})" if held.why else ""
            self._display.note(f"  {held.outcome:<8} {reached}{why}: {values_text(held.values)}")


def _why(trial: TuneTrial) -> str:
    error = trial.get_error()
    cause = getattr(error, "cause", None) or error
    return f"{type(cause).__name__}: {first_line(cause)}" if cause is not None else "its process was lost"
