"""The outcome of a trial: how its commands ended, what is wrong with the result, and what that says about the promise."""

from collections.abc import Sequence
from dataclasses import dataclass

from tests.faults.plan import Plan
from tests.faults.stages import ACTOR, GCS, INTERRUPT, KILL, NODE, RAYLET, WORKER

CODES = {
    KILL: (-9,),
    INTERRUPT: (130, 0),
    WORKER: (0,),
    ACTOR: (0,),
    NODE: (0,),
    RAYLET: (1, 0),
    GCS: (1, 0),
}
"""Exit codes with which a disturbed command may end. It may have had nothing left to do, and then ends with 0."""
MOST_COMMANDS = 3
"""Times that a command is given, the disturbed one included, before the trial counts as failed."""


@dataclass(frozen=True, kw_only=True)
class End:
    """The end of one command."""

    code: int | None
    """Exit code, negative for a signal; None if the command took too long."""
    said: tuple[str, ...] = ()
    """Lines on stderr."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What happened in a trial."""

    trial: int
    stage: str
    victim: str
    signal: str
    pause_s: float
    step: int
    """Step of the run after which the kill came; 0 if nothing was killed."""
    steps: int
    """Steps of the undisturbed run."""
    killed_after_s: float
    codes: tuple[int | None, ...]
    """Exit codes of the disturbed command and of its repetitions."""
    said: str
    """First line on stderr of the disturbed command."""
    wrong: tuple[str, ...]
    """Sentences about what is not as promised."""
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether everything is as promised."""
        return not self.wrong


def wrong_ends(plan: Plan, ends: Sequence[End]) -> list[str]:
    """What is wrong about the ends of a trial's commands, of which the first one was disturbed."""
    first, *others = ends
    allowed = CODES[plan.victim]
    wrong = []
    if first.code is None:
        wrong.append("the disturbed command did not end in time")
    elif first.code not in allowed:
        wrong.append(f"the disturbed command ended with {first.code}, expected {' or '.join(map(str, allowed))}")
    if plan.victim != KILL:
        wrong += _wrong_words("the disturbed command", first)
    for number, end in enumerate(others, start=2):
        if end.code != 0:
            ending = "did not end in time" if end.code is None else f"ended with {end.code}"
            wrong.append(f"command {number} {ending}")
        wrong += _wrong_words(f"command {number}", end)
    return wrong


def _wrong_words(name: str, end: End) -> list[str]:
    """A command that ends well is silent on stderr; any other prints one line."""
    if end.code is None or len(end.said) == (end.code != 0):
        return []
    return [f"{name} ended with {end.code} and printed {len(end.said)} lines on stderr, such as {_shown(end.said)!r}"]


def _shown(lines: Sequence[str]) -> str:
    return lines[-1][:200] if lines else ""
