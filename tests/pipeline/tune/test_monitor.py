"""The monitor of a search: the clock, the display, and the records of trials that end without writing one."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
from ray.tune.experiment.trial import Trial as TuneTrial

from pipeline.tune.monitor import TuneMonitor
from pipeline.tune.search_folder import SearchFolder
from pipeline.tune.space import Values
from tests.pipeline.support.searches import example_search, example_task


@dataclass(frozen=True, eq=False)
class TrialOfTune:
    """The part of Ray Tune's own trial that a callback uses."""

    trial_id: str
    status: str
    config: Values

    def get_error(self) -> Exception:
        """The error of a trial that failed."""
        return RuntimeError("killed by the system\nmore")


def monitor_in(out: Path, trials: int = 2) -> TuneMonitor:
    """The monitor of a search in a folder, with the example's seven trials as earlier ones."""
    example, _ = example_search()
    return TuneMonitor(example_task(out), SearchFolder(str(out)), trials, example)


def test_a_trial_whose_process_died_is_recorded(tmp_path: Path) -> None:
    monitor = monitor_in(tmp_path)
    trial: Any = TrialOfTune("t", TuneTrial.ERROR, {"kernel.scales": 3})
    monitor.on_trial_error(0, [trial], trial)
    folder = monitor.task.folder(trial.config)
    record = folder.read()
    assert record is not None
    assert (record.outcome, record.why) == ("lost", "RuntimeError: killed by the system")
    again = folder.begin(trial.config)  # the values are not to blame, so it runs again
    assert (again.outcome, again.why) == ("running", "")


def test_a_trial_that_starts_again_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    display = MagicMock()
    monkeypatch.setattr("pipeline.tune.monitor.Display", lambda *_: display)
    monitor = monitor_in(tmp_path)
    trial: Any = TrialOfTune("t", TuneTrial.PENDING, {"kernel.scales": 3})
    monitor.on_trial_recover(0, [trial], trial)  # before the display opens
    monitor.setup()
    monitor.on_trial_recover(0, [trial], trial)
    (call,) = display.__enter__.return_value.note.call_args_list
    assert "its process; starts again from its checkpoint: scales 3" in call.args[0]
    assert monitor.task.folder(trial.config).read() is None


def test_the_clock_of_a_search_continues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("pipeline.tune.monitor.time.monotonic", lambda: now[0])
    monkeypatch.setattr("pipeline.tune.monitor.Display", lambda *_: MagicMock())
    folder = SearchFolder(str(tmp_path))
    assert folder.seconds() == 0
    for expected in (30.0, 60.0):
        monitor = monitor_in(tmp_path)
        monitor.setup()
        now[0] += 30
        monitor.on_step_end(0, [])
        assert folder.seconds() == expected
        now[0] += 1000  # between the calls
        monitor.close()


def test_the_display_counts_the_trials_of_earlier_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    display = MagicMock()
    display.__enter__.return_value = display
    monkeypatch.setattr("pipeline.tune.monitor.Display", lambda *_: display)
    monitor = monitor_in(tmp_path, trials=9)
    monitor.setup()
    monitor.on_step_end(0, [])
    display.update.assert_called_with(7, "7/9 trials, 0 running, best 91.0 ± 0.6 %")
    monitor.close()
    monitor.close()
    display.__exit__.assert_called_once()
