"""The summary of all trials by stage and victim."""

from collections.abc import Sequence

from rich.table import Table

from tests.faults.outcome import Outcome
from tests.faults.stages import STAGES, VICTIMS


def line(outcome: Outcome) -> str:
    """One line about a trial, for the terminal."""
    hung = f" after {outcome.pause_s:g} s of SIGSTOP" if outcome.pause_s else ""
    codes = ", ".join("too slow" if code is None else str(code) for code in outcome.codes)
    verdict = "ok" if outcome.passed else f"FAILED: {'; '.join(outcome.wrong)}"
    return (
        f"trial {outcome.trial:3d}: {outcome.stage}, {outcome.victim} ({outcome.signal}{hung}) after step {outcome.step} "
        f"of {outcome.steps}, {outcome.killed_after_s:.1f} s; exit codes {codes}; {outcome.seconds:.0f} s, {verdict}"
    )


def table(outcomes: Sequence[Outcome]) -> Table:
    """A row for each stage and victim that was tried."""
    made = Table(title="real kills at random moments")
    for column in ("stage", "victim", "trials", "passed", "commands", "median s"):
        made.add_column(column, justify="left" if column in ("stage", "victim") else "right")
    for stage in STAGES:
        for victim in VICTIMS:
            matching = [outcome for outcome in outcomes if (outcome.stage, outcome.victim) == (stage, victim)]
            if matching:
                seconds = sorted(outcome.seconds for outcome in matching)[len(matching) // 2]
                made.add_row(
                    stage,
                    victim,
                    str(len(matching)),
                    str(sum(outcome.passed for outcome in matching)),
                    str(max(len(outcome.codes) for outcome in matching)),
                    f"{seconds:.0f}",
                )
    return made
