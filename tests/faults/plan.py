"""What a trial kills, how, and when: everything is drawn from its number."""

import random
from dataclasses import dataclass, replace

from tests.faults.stages import ACTOR, INTERRUPT, NODE, STAGES, WORKER

STARTING = 0.2
"""Share of the trials that kill before the stage has written anything but its lease."""
PAUSED = 0.3
"""Share of the kills before which the process hangs for a while."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One trial before it runs."""

    trial: int
    stage: str
    victim: str
    signal: str
    """SIGKILL, or for an interrupted driver SIGINT (to its process group, as a terminal sends it) or SIGTERM."""
    pause_s: float
    """Seconds between SIGSTOP and SIGKILL; 0 sends no SIGSTOP."""
    part: float | None
    """Part of the steps of the undisturbed run after which the kill comes, from 0 to 1; None while the stage starts."""
    rest: float
    """Part of the time between that step and the next one, from 0 to 1."""
    which: float
    """Chooses among several processes or nodes, from 0 to 1."""

    def earlier(self) -> "Plan":
        """The plan with a moment in the first half of the time before, for a run that ended before it was reached."""
        return replace(self, part=None if self.part is None else self.part / 2, rest=self.rest / 2)

    def moment(self, steps: tuple[float, ...], seconds: float) -> tuple[int, float]:
        """The number of steps after which the kill comes, and the seconds after the last of them.

        Args:
            steps: when the undisturbed run took its steps, in seconds after its start. The first is the lease.
            seconds: duration of the undisturbed run.
        """
        number = 1 if self.part is None else min(len(steps), 2 + int(self.part * (len(steps) - 1)))
        ends = (*steps, seconds)
        return number, self.rest * max(0.0, ends[number] - ends[number - 1])


def combinations() -> list[tuple[str, str]]:
    """Every stage with everything that may be killed while it runs."""
    return [(stage.name, victim) for stage in STAGES.values() for victim in stage.victims]


def drawn(trial: int) -> Plan:
    """The plan of a trial. Any successive trials from a multiple of their number on have every combination once."""
    pairs = combinations()
    turn, place = divmod(trial, len(pairs))
    random.Random(f"order {turn}").shuffle(pairs)
    stage, victim = pairs[place]
    chance = random.Random(f"trial {trial}")
    signal = chance.choice(["SIGINT", "SIGTERM"]) if victim == INTERRUPT else "SIGKILL"
    hangs = signal == "SIGKILL" and victim != NODE and chance.random() < PAUSED
    pause = chance.uniform(0.2, 1.5)
    starts = victim not in (WORKER, ACTOR, NODE) and chance.random() < STARTING
    return Plan(
        trial=trial,
        stage=stage,
        victim=victim,
        signal=signal,
        pause_s=pause if hangs else 0.0,
        part=None if starts else chance.random(),
        rest=chance.random(),
        which=chance.random(),
    )
