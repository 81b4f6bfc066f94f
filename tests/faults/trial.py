"""One trial: a stage is disturbed by one real kill, repeated as a user would repeat it, and compared with the undisturbed."""

import json
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.faults.outcome import MOST_COMMANDS, End, Outcome, wrong_ends
from tests.faults.plan import Plan
from tests.faults.promise import differences, promised
from tests.faults.reference import Reference, Undisturbed
from tests.faults.run import UNDISTURBED_S, Run, environment, limit_s
from tests.faults.stages import CHECKPOINT_EVERY, KILL, STAGES, Stage
from tests.faults.victims import MARK, Victim, find, left_behind
from tests.faults.watch import EVERY_S, Steps

MOST_TRIES = 4
"""Times that a stage is started because it ended before its moment came. Each time the moment is earlier."""
LEAVE_S = 20.0
"""Seconds after the last command in which all of its processes must be gone."""


@dataclass(frozen=True, kw_only=True)
class Disturbed:
    """A stage that was disturbed, and brought to its end."""

    step: int = 0
    killed_after_s: float = 0.0
    ends: tuple[End, ...] = ()
    """Ends of the disturbed command and of its repetitions; none if it ended each time before its moment came."""


class Trial:
    """One trial in a folder of its own: ``run`` is the stage's folder, beside the output of its commands."""

    def __init__(self, plan: Plan, folder: Path, reference: Reference, cluster: Any = None) -> None:
        """Prepares a trial.

        Args:
            plan: what is killed, and when.
            folder: folder of the trial, which is replaced.
            reference: undisturbed runs.
            cluster: cluster of ``ray.cluster_utils`` that the run joins, if one of its nodes is killed.
        """
        self._plan, self._folder, self._reference, self._cluster = plan, folder, reference, cluster
        self._stage: Stage = STAGES[plan.stage]
        self._mark = uuid.uuid4().hex
        self._out = folder / "run"

    def run(self) -> Outcome:
        """Runs the trial. Raises RuntimeError if the undisturbed run fails."""
        expected = self._reference.of(self._stage.name)
        began = time.monotonic()
        disturbed = self._disturbed(expected)
        wrong = self._wrong(disturbed, expected)
        said = disturbed.ends[0].said if disturbed.ends else ()
        return Outcome(
            trial=self._plan.trial,
            stage=self._stage.name,
            victim=self._plan.victim,
            signal=self._plan.signal,
            pause_s=round(self._plan.pause_s, 2),
            step=disturbed.step,
            steps=len(expected.steps),
            killed_after_s=round(disturbed.killed_after_s, 2),
            codes=tuple(end.code for end in disturbed.ends),
            said=said[0] if said else "",
            wrong=tuple(wrong),
            seconds=round(time.monotonic() - began, 1),
        )

    def _wrong(self, disturbed: Disturbed, expected: Undisturbed) -> list[str]:
        if not disturbed.ends:
            return [f"there was no {self._plan.victim} to kill: the command ended before, {MOST_TRIES} times"]
        wrong = wrong_ends(self._plan, disturbed.ends)
        wrong += [f"{title} was still running" for title in left_behind(self._mark, LEAVE_S)]
        wrong += differences(expected.promised, promised(self._out))
        return wrong + self._verified() + self._repeated()

    def _disturbed(self, expected: Undisturbed) -> Disturbed:
        """Kills once, at an earlier moment if the run ended before, and repeats the command until it ends well."""
        plan = self._plan
        for _ in range(MOST_TRIES):
            shutil.rmtree(self._folder, ignore_errors=True)
            self._reference.start(self._stage, self._out)
            with self._command(1, expected) as run:
                step = _struck(plan, expected, run, Steps(self._out), self._cluster)
                killed_after = run.seconds
                if step is None:
                    run.code()
                    plan = plan.earlier()
                    continue
                end = End(code=run.code(), said=tuple(run.said()))
            if plan.victim == KILL and end.code == 0:  # it ended by itself at that moment
                plan = plan.earlier()
                continue
            return Disturbed(step=step, killed_after_s=killed_after, ends=(end, *self._repetitions(end, expected)))
        return Disturbed()

    def _repetitions(self, end: End, expected: Undisturbed) -> Iterator[End]:
        for number in range(2, MOST_COMMANDS + 1):
            if end.code == 0:
                return
            with self._command(number, expected) as run:
                end = End(code=run.code(), said=tuple(run.said()))
            yield end

    def _command(self, number: int, expected: Undisturbed) -> Run:
        arguments = self._stage.arguments(self._out, self._reference.shards)
        address = self._cluster.address if self._cluster is not None else None
        log, limit = self._folder / f"command-{number}", limit_s(expected.seconds)
        return Run(arguments, environment((MARK, self._mark), address), log, limit)

    def _verified(self) -> list[str]:
        """What ``verify`` finds."""
        if not self._stage.verified:
            return []
        done = subprocess.run(
            [sys.executable, "-m", "pipeline", "verify", str(self._out)],
            capture_output=True,
            text=True,
            env=environment((MARK, self._mark)),
            timeout=UNDISTURBED_S,
        )
        return [] if done.returncode == 0 else [f"verify: {line}" for line in (done.stdout + done.stderr).splitlines()]

    def _repeated(self) -> list[str]:
        most = repeated_iterations(self._out)
        return [] if most <= CHECKPOINT_EVERY else [f"a group repeated {most} iterations"]


def _struck(plan: Plan, expected: Undisturbed, run: Run, steps: Steps, cluster: Any) -> int | None:
    """Waits for the moment and kills. Returns the number of steps until then, or None if the run ended before."""
    number, delay_s = plan.moment(expected.steps, expected.seconds)
    while steps.look() < number:
        if run.is_over or run.is_late:
            return None
        time.sleep(EVERY_S)
    moment = run.seconds + delay_s
    while True:
        if run.is_over or run.is_late:
            return None
        if run.seconds >= moment:
            victim: Victim | None = find(plan, run.pid, cluster)
            if victim is not None and victim.strike(plan):
                return steps.look()
        steps.look()
        time.sleep(EVERY_S)


def repeated_iterations(out: Path) -> int:
    """Largest number of iterations that a group repeated after resuming, according to the run's own logs."""
    events = _lines(out / "events.jsonl")
    metrics = _lines(out / "metrics.jsonl")
    most = 0
    begins: dict[int, list[dict[str, Any]]] = {}
    for event in events:
        if event["event"] == "begin" and "group" in event:
            begins.setdefault(event["group"], []).append(event)
    for group, starts in begins.items():
        for start in starts[1:]:
            before = [m["iteration"] for m in metrics if m["group"] == group and m["time"] < start["time"]]
            most = max(most, max(before, default=0) - start["iteration"])
    return most


def _lines(path: Path) -> list[dict[str, Any]]:
    entries = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            entries.append(json.loads(line))
        except json.JSONDecodeError:
            continue  # the line that a killed driver was writing
    return entries
