"""Accuracy against bandwidth and learning rate, at the first rung, where all trials were measured."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize

from pipeline.observability.pages import new_axes
from pipeline.observability.pages.figures import BAD, INK
from pipeline.tune.page.scale import COLOUR_MAP, colour_bar, lowest_shown, position, svg_of, ticks
from pipeline.tune.results import SearchResult
from pipeline.tune.space import RATE, Space
from pipeline.tune.trial_store import FAILED, TrialRecord

MULTIPLIER = "kernel.bandwidth_multiplier"


def heat_map(result: SearchResult, space: Space) -> str:
    """Draws accuracy against bandwidth and learning rate, or the first two ranges of the space.

    Trials are points in the colour of their accuracy. Between them nothing was measured, and nothing is drawn.

    Returns:
        SVG, empty if the space has fewer than two ranges or fewer than two trials were measured.
    """
    keys = _keys(space)
    measured = [trial for trial in result.trials if trial.rungs]
    if len(keys) < 2 or len(measured) < 2:
        return ""
    x, y = (np.array([position(space.domains[key], trial.values[key]) for trial in measured]) for key in keys)
    accuracy = np.array([trial.rungs[0].mean for trial in measured])
    axes = new_axes(5.6, 4.2)
    lowest = lowest_shown(accuracy)
    colours = Normalize(lowest, accuracy.max(), clip=True)
    axes.scatter(x, y, c=accuracy, cmap=COLOUR_MAP, norm=colours, s=80, edgecolors=INK, linewidths=0.6, clip_on=False)
    for trial, across, up in zip(measured, x, y, strict=True):
        _mark(axes, result, trial, across, up)
    failed = [trial for trial in result.trials if not trial.rungs and trial.outcome in FAILED]
    if failed:
        at = [[position(space.domains[key], trial.values[key]) for trial in failed] for key in keys]
        axes.scatter(*at, marker="x", color=BAD, label="failed", clip_on=False)
    for axis, key in zip((axes.xaxis, axes.yaxis), keys, strict=True):
        positions, labels = ticks(space.domains[key])
        axis.set_ticks(positions, labels)
        axis.set_label_text(key)
    axes.set(xlim=(0, 1), ylim=(0, 1))
    colour_bar(axes, ScalarMappable(colours, COLOUR_MAP), result)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.14), ncols=3, frameon=False, labelcolor=INK)
    alt = f"Accuracy of {len(measured)} trials by {keys[0]} and {keys[1]}, between {accuracy.min():.1f} and {accuracy.max():.1f} %"
    return svg_of(axes, alt)


def _keys(space: Space) -> list[str]:
    ranges = [key for key, domain in space.domains.items() if domain.is_range]
    return [MULTIPLIER, RATE] if {MULTIPLIER, RATE} <= set(ranges) else ranges[:2]


def _mark(axes: Axes, result: SearchResult, trial: TrialRecord, x: float, y: float) -> None:
    if result.finished and trial.key == result.winner.key:
        axes.scatter(
            x, y, marker="*", s=420, facecolors="none", edgecolors=BAD, linewidths=1.6, label="winner", clip_on=False
        )
    if trial.key == result.start_key:
        axes.scatter(x, y, marker="s", s=190, facecolors="none", edgecolors=INK, label="given", clip_on=False)
