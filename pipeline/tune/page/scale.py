"""Axes and scales that the plots of a search share."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from pipeline.observability.pages import svg
from pipeline.observability.pages.figures import finish
from pipeline.tune.results import SearchResult
from pipeline.tune.space import Domain

COLOUR_MAP = LinearSegmentedColormap.from_list("accuracy", ("#7b8794", "#4f7fb5", "#c2600c"))
"""From poor to good, visible on light and on dark pages."""
FAR = 3.0
"""The scale starts at best - FAR * (best - median), or at the worst trial if that is higher. Worse trials are drawn at its start."""


def lowest_shown(accuracies: Sequence[float] | np.ndarray) -> float:
    """Returns where a scale of accuracies begins: a few very poor trials must not take up most of it."""
    worst, median, best = (float(x) for x in np.quantile(np.asarray(accuracies), (0, 0.5, 1)))
    return max(worst, best - FAR * (best - median)) if median < best else worst


def position(domain: Domain, value: Any) -> float:
    """Returns where a value lies on its axis, 0 to 1. Values of a list are at even distances, numbers in rising order."""
    if domain.kind == "loguniform":
        low, high, value = math.log(domain.low), math.log(domain.high), math.log(value)
    elif domain.is_range:
        low, high = domain.low, domain.high
    else:
        order = ordered(domain.values)
        low, high, value = 0, len(order) - 1, order.index(value)
    return (value - low) / (high - low) if high > low else 0.5


def ordered(values: Sequence[Any]) -> list[Any]:
    """Returns numbers in rising order, anything else in the order of the list."""
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    return sorted(values) if numbers else list(values)


def ticks(domain: Domain) -> tuple[list[float], list[str]]:
    """Returns positions on the axis, 0 to 1, and their labels."""
    if not domain.is_range:
        shown = ordered(domain.values)
    elif domain.kind == "loguniform":
        exponents = range(math.ceil(math.log10(domain.low) - 1e-9), math.floor(math.log10(domain.high) + 1e-9) + 1)
        shown = sorted({domain.low, domain.high, *(10.0**e for e in exponents)})
        # The label of a power of ten next to an end would overlap that of the end.
        shown = [v for v in shown if v in (domain.low, domain.high) or 0.07 < position(domain, v) < 0.93]
    else:
        shown = list(np.linspace(domain.low, domain.high, 5))
    return [position(domain, value) for value in shown], [_tick(value) for value in shown]


def colour_bar(axes: Axes, colours: ScalarMappable, result: SearchResult) -> None:
    """Adds the scale of accuracies, with an arrow if a trial lies below it."""
    worst = min(trial.rungs[0].mean for trial in result.trials if trial.rungs)
    below = worst < colours.get_clim()[0]
    bar = _figure(axes).colorbar(colours, ax=axes, extend="min" if below else "neither")
    bar.set_label(f"accuracy after {result.rungs[0]} iterations, %")


def svg_of(axes: Axes, alt: str, *, grid: str = "") -> str:
    """Returns the figure as an SVG element.

    Args:
        axes: of the figure.
        alt: what it shows, for those who do not see it.
        grid: axis with a grid, ``x`` or ``y``; the legend is drawn with it. Empty for none.
    """
    if grid:
        finish(axes, grid=grid)
    return svg(_figure(axes), alt)


def _figure(axes: Axes) -> Figure:
    figure = axes.get_figure(root=True)
    assert figure is not None
    return figure


def _tick(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
