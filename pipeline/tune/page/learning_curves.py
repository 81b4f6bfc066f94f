"""Accuracy of every trial against iterations."""

from dataclasses import dataclass

from matplotlib.axes import Axes

from pipeline.observability.pages import new_axes
from pipeline.observability.pages.figures import ACCENT, BAD, INK, MUTED, WARM
from pipeline.tune.page.scale import lowest_shown, svg_of
from pipeline.tune.results import SearchResult
from pipeline.tune.trial_store import FAILED, TrialRecord

MARGIN = 0.15
"""Part of the scale that is left free above the best."""


@dataclass(frozen=True, kw_only=True)
class LineStyle:
    """How a trial's line is drawn."""

    label: str
    colour: str
    width: float
    order: int
    """Lines of a higher order are drawn above the others."""
    dashes: str = "-"


def learning_curves(result: SearchResult) -> str:
    """Draws accuracy against iterations, with standard errors; the line of a stopped trial ends in a cross.

    Returns:
        SVG, empty if no trial was measured.
    """
    measured = [trial for trial in result.trials if trial.rungs]
    if not measured:
        return ""
    axes = new_axes(5.6, 4.2)
    winner = result.winner.key if result.finished else None
    labels: set[str] = set()
    for trial in sorted(measured, key=lambda trial: trial.key in (winner, result.start_key)):
        style = _style(trial, winner, result.start_key)
        _draw(axes, trial, style, with_label=style.label not in labels)
        labels.add(style.label)
    axes.set_xscale("log")
    axes.set_xticks(result.rungs, [str(rung) for rung in result.rungs])
    axes.minorticks_off()
    axes.set(xlabel="iterations", ylabel="validation accuracy, %")
    named = [trial for trial in measured if trial.key in (winner, result.start_key)]
    _limit(axes, measured, [rung.mean - rung.error for trial in named for rung in trial.rungs])
    alt = f"Accuracy of {len(measured)} trials at {', '.join(map(str, result.rungs))} iterations"
    return svg_of(axes, alt, grid="y")


def _draw(axes: Axes, trial: TrialRecord, style: LineStyle, *, with_label: bool) -> None:
    iterations = [rung.iteration for rung in trial.rungs]
    means = [rung.mean for rung in trial.rungs]
    axes.errorbar(
        iterations,
        means,
        yerr=[rung.error for rung in trial.rungs],
        label=style.label if with_label else None,
        capsize=2,
        elinewidth=0.7,
        color=style.colour,
        linewidth=style.width,
        linestyle=style.dashes,
        zorder=style.order,
    )
    if trial.outcome in ("stopped", *FAILED):
        colour = BAD if trial.outcome in FAILED else style.colour
        axes.plot(iterations[-1], means[-1], marker="x", color=colour, markersize=7, markeredgewidth=1.6)


def _limit(axes: Axes, measured: list[TrialRecord], kept: list[float]) -> None:
    """Cuts the scale where only very poor trials lie, and says how many ended there; ``kept`` stays on it."""
    means = [rung.mean for trial in measured for rung in trial.rungs]
    lowest = min([lowest_shown(means), *kept])
    if lowest > min(means):
        axes.set_ylim(lowest, max(means) + MARGIN * (max(means) - lowest))
        below = sum(trial.rungs[-1].mean < lowest for trial in measured)
        axes.set_title(f"{below} of {len(measured)} trials ended below this scale", fontsize=9, color=MUTED)


def _style(trial: TrialRecord, winner: str | None, start: str) -> LineStyle:
    if trial.key == winner:
        same = " (as given)" if trial.key == start else ""
        return LineStyle(label=f"winner{same}", colour=WARM, width=2.4, order=5)
    if trial.key == start:
        return LineStyle(label="given", colour=INK, width=1.6, dashes="--", order=4)
    if trial.outcome == "finished":
        return LineStyle(label="finished", colour=ACCENT, width=1.1, order=3)
    if trial.outcome in FAILED:
        return LineStyle(label="failed", colour=BAD, width=1.0, order=2)
    return LineStyle(label="stopped early", colour=MUTED, width=1.0, order=2)
