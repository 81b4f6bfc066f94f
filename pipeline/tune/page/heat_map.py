"""Accuracy against bandwidth and learning rate, at the first rung, where all trials were measured."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize

from pipeline.tune.page.scale import COLOUR_MAP, colour_bar, lowest_shown, new_axes, position, svg_of, ticks
from pipeline.tune.results import SearchResult
from pipeline.tune.space import RATE, Space
from pipeline.tune.trial_store import FAILED, TrialRecord

MULTIPLIER = "kernel.bandwidth_multiplier"
SMOOTH = 0.12
"""Width of the smoothing, as a fraction of the axes."""
PIXELS = 80
"""Points of the coloured background along an axis."""


def heat_map(result: SearchResult, space: Space) -> str:
    """Draws accuracy against bandwidth and learning rate, or the first two ranges of the space.

    Trials are drawn as points. The background is their mean with Gaussian weights by distance.

    Returns:
        SVG, empty if the space has fewer than two ranges or fewer than two trials were measured.
    """
    keys = _keys(space)
    measured = [trial for trial in result.trials if trial.rungs]
    if len(keys) < 2 or len(measured) < 2:
        return ""
    x, y = (np.array([position(space.domains[key], trial.values[key]) for trial in measured]) for key in keys)
    accuracy = np.array([trial.rungs[0].mean for trial in measured])
    axes = new_axes(6.4, 4.6)
    lowest = lowest_shown(accuracy)
    colours = Normalize(lowest, accuracy.max(), clip=True)
    _draw_background(axes, x, y, np.maximum(accuracy, lowest), colours)
    axes.scatter(
        x, y, c=accuracy, cmap=COLOUR_MAP, norm=colours, s=42, edgecolors="black", linewidths=0.6, clip_on=False
    )
    for trial, across, up in zip(measured, x, y, strict=True):
        _mark(axes, result, trial, across, up)
    failed = [trial for trial in result.trials if not trial.rungs and trial.outcome in FAILED]
    if failed:
        at = [[position(space.domains[key], trial.values[key]) for trial in failed] for key in keys]
        axes.scatter(*at, marker="x", color="crimson", label="failed", clip_on=False)
    for axis, key in zip((axes.xaxis, axes.yaxis), keys, strict=True):
        positions, labels = ticks(space.domains[key])
        axis.set_ticks(positions, labels)
        axis.set_label_text(key)
    axes.set(xlim=(0, 1), ylim=(0, 1))
    colour_bar(axes, ScalarMappable(colours, COLOUR_MAP), result)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.12), ncols=3, frameon=False)
    return svg_of(axes)


def _keys(space: Space) -> list[str]:
    ranges = [key for key, domain in space.domains.items() if domain.is_range]
    return [MULTIPLIER, RATE] if {MULTIPLIER, RATE} <= set(ranges) else ranges[:2]


def _draw_background(axes: Axes, x: np.ndarray, y: np.ndarray, accuracy: np.ndarray, colours: Normalize) -> None:
    grid_x, grid_y = np.meshgrid(np.linspace(0, 1, PIXELS), np.linspace(0, 1, PIXELS))
    distance = (grid_x[..., None] - x) ** 2 + (grid_y[..., None] - y) ** 2
    # The nearest trial always counts, however far away it is.
    weight = np.exp(-(distance - distance.min(-1, keepdims=True)) / (2 * SMOOTH**2))
    smoothed = (weight * accuracy).sum(-1) / weight.sum(-1)
    axes.pcolormesh(grid_x, grid_y, smoothed, cmap=COLOUR_MAP, norm=colours, alpha=0.75, rasterized=True)


def _mark(axes: Axes, result: SearchResult, trial: TrialRecord, x: float, y: float) -> None:
    if result.finished and trial.key == result.winner.key:
        axes.scatter(x, y, marker="*", s=260, facecolors="none", edgecolors="crimson", linewidths=1.6, label="winner")
    if trial.key == result.start_key:
        axes.scatter(x, y, marker="s", s=110, facecolors="none", edgecolors="black", label="given", clip_on=False)
