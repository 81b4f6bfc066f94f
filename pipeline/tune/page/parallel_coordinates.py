"""All settings of all trials, at the first rung, where all trials were measured."""

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize

from pipeline.observability.pages import new_axes
from pipeline.observability.pages.figures import INK, LINE
from pipeline.tune.page.scale import COLOUR_MAP, colour_bar, lowest_shown, position, svg_of, ticks
from pipeline.tune.results import SearchResult
from pipeline.tune.space import Space


def parallel_coordinates(result: SearchResult, space: Space) -> str:
    """Draws a line through the values of each trial, coloured by accuracy. The winner's is bold, the given one dashed.

    Returns:
        SVG, empty if no trial was measured or a single setting is searched.
    """
    measured = sorted((trial for trial in result.trials if trial.rungs), key=lambda trial: trial.rungs[0].mean)
    keys = list(space.domains)
    if not measured or len(keys) < 2:
        return ""
    axes = new_axes(8.6, 3.8)
    accuracies = [trial.rungs[0].mean for trial in measured]
    colours = ScalarMappable(Normalize(lowest_shown(accuracies), max(accuracies), clip=True), COLOUR_MAP)
    winner = result.winner.key
    for trial in measured:
        bold = trial.key == winner
        axes.plot(
            range(len(keys)),
            [position(space.domains[key], trial.values[key]) for key in keys],
            color=colours.to_rgba(np.array([trial.rungs[0].mean]))[0],
            linewidth=3 if bold else 1.2,
            linestyle="--" if trial.key == result.start_key else "-",
            alpha=1 if bold or trial.key == result.start_key else 0.75,
            zorder=3 if bold else 2,
        )
    for at, key in enumerate(keys):
        axes.axvline(at, color=LINE, linewidth=0.8, zorder=1)
        for height, label in zip(*ticks(space.domains[key]), strict=True):
            axes.text(at + 0.03, height, label, fontsize=8, va="center", zorder=4, color=INK)
    axes.set_xticks(range(len(keys)), [key.replace(".", ".\n", 1) for key in keys], fontsize=8)
    axes.set_yticks([])
    axes.set_xlim(-0.1, len(keys) - 0.5)
    axes.spines[:].set_visible(False)
    colour_bar(axes, colours, result)
    alt = f"{len(measured)} trials as lines through the values of {', '.join(keys)}"
    return svg_of(axes, alt)
