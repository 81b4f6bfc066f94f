"""What the user sees of a search while it runs, and the records of trials that end without writing one themselves."""

import re
import time
from typing import Any

from ray.tune import Callback
from ray.tune.experiment.trial import Trial as TuneTrial

from pipeline.errors import first_line
from pipeline.observability.progress import Display
from pipeline.runtime.tasks import MEMORY
from pipeline.runtime.watch import Watch
from pipeline.tune.results import SearchResult, accuracy_text, values_text
from pipeline.tune.search_folder import SearchFolder
from pipeline.tune.task import TrialTask
from pipeline.tune.trial_store import TrialRecord

CLOCK_EVERY_S = 5.0
"""Seconds between two writes of clock.json."""
ACTOR_ID = re.compile(r"actor_id: (\w+)")
ERROR_LINE = re.compile(r"^(?:\w+\.)*(\w*(?:Error|Exception)\b.*)$", re.MULTILINE)
"""The line of a traceback with the error, without its module."""


class TuneMonitor(Callback):
    """A bar over the trials, and a line for each that ends. Ray Tune calls its methods."""

    def __init__(
        self, task: TrialTask, folder: SearchFolder, trials: int, earlier: SearchResult, watch: Watch | None = None
    ) -> None:
        """Args: the task, the search's folder, the number of trials, what earlier calls have recorded, and the watch."""
        self._watch = watch
        self.task, self.folder, self.total, self.start_key = task, folder, trials, earlier.start_key
        self._ended = sum(record.has_ended for record in earlier.trials)
        self._spent = self._began = self._written = 0.0
        self._display: Display | None = None
        self._best: TrialRecord | None = None
        for record in earlier.trials:
            self._compare(record)

    def setup(self, *_: Any, **__: Any) -> None:
        """Opens the display, and starts the clock of this call."""
        self._spent, self._began, self._written = self.folder.seconds(), time.monotonic(), time.monotonic()
        self._display = Display("tune", self.total).__enter__()

    def close(self) -> None:
        """Closes the display if it is open, so that the terminal has its cursor again after an interrupt, too."""
        if self._display is not None:
            self._display.__exit__(None, None, None)
            self._display = None

    def on_step_end(self, iteration: int, trials: list[TuneTrial], **_: Any) -> None:
        """Moves the bar, and writes the clock every few seconds. Processes of unfinished trials are watched."""
        if self._watch is not None:
            actors = [trial.temporary_state.ray_actor for trial in trials if not trial.is_finished()]
            self._watch.expect_only([actor for actor in actors if actor is not None])
        if time.monotonic() - self._written >= CLOCK_EVERY_S:
            self._write_clock()
        if self._display is None:
            return
        ended = self._ended + sum(trial.is_finished() for trial in trials)
        running = sum(trial.status == TuneTrial.RUNNING for trial in trials)
        best = [f"best {accuracy_text(self._best.last)} %"] if self._best else []
        self._display.update(ended, ", ".join([f"{ended}/{self.total} trials, {running} running", *best]))

    def on_trial_complete(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **_: Any) -> None:
        """Records that the scheduler stopped the trial and deletes its checkpoint; it will not be resumed.

        The given configuration keeps its checkpoint: it is always brought to its last rung.
        """
        trial_folder = self.task.folder(trial.config)
        record = trial_folder.settle("stopped")
        if record is None:
            return
        if record.outcome in ("stopped", "failed") and record.key != self.start_key:
            trial_folder.delete_checkpoint()
        self._note(record)

    def on_trial_recover(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **_: Any) -> None:
        """Reports a trial whose process was lost, and that runs again."""
        if self._display is not None:
            self._display.note(f"  lost     its process; starts again from its checkpoint: {values_text(trial.config)}")

    def on_trial_error(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **_: Any) -> None:
        """Records a trial whose process died too often, or broke for a reason other than its values."""
        trial_folder = self.task.folder(trial.config)
        trial_folder.begin(trial.config)
        record = trial_folder.settle("lost", self._reason(trial))
        if record is not None:
            self._note(record)

    def on_experiment_end(self, trials: list[TuneTrial], **_: Any) -> None:
        """Writes the clock, and closes the display."""
        self._write_clock()
        self.close()

    def _reason(self, trial: TuneTrial) -> str:
        """Why the last process of a trial ended."""
        error: object = trial.get_error()  # the text of a traceback
        if isinstance(error, Exception):
            return f"{type(error).__name__}: {first_line(error)}"
        text = str(error or "")
        silence = self._watch.silence_of(*ACTOR_ID.findall(text)) if self._watch is not None else ""
        if silence:
            return silence
        if "OutOfMemoryError: Task was killed" in text or "memory monitor" in text:
            return f"its node ran out of memory; {MEMORY['tune']}"
        return (ERROR_LINE.findall(text) or ["its process was lost"])[-1]

    def _write_clock(self) -> None:
        self._written = time.monotonic()
        self.folder.write_seconds(self._spent + self._written - self._began)

    def _compare(self, record: TrialRecord) -> None:
        """Keeps a finished trial that is better than the best so far."""
        best = self._best.last if self._best else None
        if record.outcome == "finished" and record.last and (best is None or record.last.mean > best.mean):
            self._best = record

    def _note(self, record: TrialRecord) -> None:
        last = record.last
        reached = f"{accuracy_text(last)} % after {last.iteration} iterations" if last else "no accuracy"
        self._compare(record)
        if self._display is not None:
            why = f" ({record.why})" if record.why else ""
            self._display.note(f"  {record.outcome:<8} {reached}{why}: {values_text(record.values)}")
