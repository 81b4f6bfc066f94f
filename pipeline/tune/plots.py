"""The pictures of a search, as SVG. All but the learning curves compare trials at the first rung, where all were measured."""

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from pipeline.observability.pages import svg
from pipeline.tune.results import SearchResult
from pipeline.tune.space import RATE, Domain, Space
from pipeline.tune.trial_store import Trial

MULTIPLIER = "kernel.bandwidth_multiplier"
MAP = "viridis"
FAILED = ("failed", "lost")
"""Outcomes of trials without a result."""
LEAST = 4
"""Trials below which nothing can be said of importance."""
FAR = 3.0
"""Times the distance of the median below the best: what is worse than that is shown as if it were so good, or not at all."""
MARGIN = 0.15
"""Part of a scale that is left free above the best."""
SMOOTH = 0.12
"""Width of the heat map's smoothing, as a part of the axes."""


def heat_map(held: SearchResult, space: Space) -> str:
    """Accuracy against bandwidth and learning rate (or the first two ranges of the space); empty without two ranges.

    Between the trials, which are drawn as points, the colour is their mean with Gaussian weights by distance.
    """
    ranges = [key for key, domain in space.domains.items() if domain.is_range]
    keys = [MULTIPLIER, RATE] if {MULTIPLIER, RATE} <= set(ranges) else ranges[:2]
    measured = [trial for trial in held.trials if trial.rungs]
    if len(keys) < 2 or len(measured) < 2:
        return ""
    x, y = (np.array([position(space.domains[key], trial.values[key]) for trial in measured]) for key in keys)
    accuracy = np.array([trial.rungs[0].mean for trial in measured])
    figure, axes = _axes(6.4, 4.6)
    grid_x, grid_y = np.meshgrid(np.linspace(0, 1, 80), np.linspace(0, 1, 80))
    distance = (grid_x[..., None] - x) ** 2 + (grid_y[..., None] - y) ** 2
    # The nearest trial always counts, however far it is.
    weight = np.exp(-(distance - distance.min(-1, keepdims=True)) / (2 * SMOOTH**2))
    lowest = lowest_shown(accuracy)
    colours = Normalize(lowest, accuracy.max(), clip=True)
    axes.pcolormesh(
        grid_x,
        grid_y,
        (weight * np.maximum(accuracy, lowest)).sum(-1) / weight.sum(-1),
        cmap=MAP,
        norm=colours,
        alpha=0.75,
        rasterized=True,
    )
    axes.scatter(x, y, c=accuracy, cmap=MAP, norm=colours, s=42, edgecolors="black", linewidths=0.6, clip_on=False)
    for trial, across, up in zip(measured, x, y, strict=True):
        _mark(axes, held, trial, across, up)
    failed = [trial for trial in held.trials if not trial.rungs and trial.outcome in FAILED]
    if failed:
        at = [[position(space.domains[key], trial.values[key]) for trial in failed] for key in keys]
        axes.scatter(*at, marker="x", color="crimson", label="failed", clip_on=False)
    for axis, key in zip((axes.xaxis, axes.yaxis), keys, strict=True):
        places, labels = ticks(space.domains[key])
        axis.set_ticks(places, labels)
        axis.set_label_text(key)
    axes.set(xlim=(0, 1), ylim=(0, 1))
    _colour_bar(figure, axes, ScalarMappable(colours, MAP), held)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.12), ncols=3, frameon=False)
    return svg(figure)


def parallel_coordinates(held: SearchResult, space: Space) -> str:
    """A line for each trial through its values, coloured by accuracy; the winner's is drawn bold."""
    measured = sorted((trial for trial in held.trials if trial.rungs), key=lambda trial: trial.rungs[0].mean)
    keys = list(space.domains)
    if not measured or len(keys) < 2:
        return ""
    figure, axes = _axes(8.6, 3.8)
    accuracies = [trial.rungs[0].mean for trial in measured]
    colours = ScalarMappable(Normalize(lowest_shown(accuracies), max(accuracies), clip=True), MAP)
    winner = held.winner.key
    for trial in measured:
        line = [position(space.domains[key], trial.values[key]) for key in keys]
        bold = trial.key == winner
        axes.plot(
            range(len(keys)),
            line,
            color=colours.to_rgba(np.array([trial.rungs[0].mean]))[0],
            linewidth=3 if bold else 1.2,
            linestyle="--" if trial.key == held.given else "-",
            alpha=1 if bold or trial.key == held.given else 0.75,
            zorder=3 if bold else 2,
        )
    for at, key in enumerate(keys):
        axes.axvline(at, color="#8a94a6", linewidth=0.8, zorder=1)
        for place, label in zip(*ticks(space.domains[key]), strict=True):
            axes.text(at + 0.03, place, label, fontsize=7, va="center", zorder=4)
    axes.set_xticks(range(len(keys)), [key.replace(".", ".\n", 1) for key in keys], fontsize=7)
    axes.set_yticks([])
    axes.set_xlim(-0.1, len(keys) - 0.5)
    axes.spines[:].set_visible(False)
    _colour_bar(figure, axes, colours, held)
    return svg(figure)


def importance(held: SearchResult, space: Space) -> dict[str, float]:
    """How much of the accuracy's variance each setting explains, by functional ANOVA; empty for too few trials.

    Source: Hutter et al., "An efficient approach for assessing hyperparameter importance" (2014), as in Optuna.
    """
    import optuna
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    measured = [trial for trial in held.trials if trial.rungs]
    if len(measured) < LEAST or len({trial.rungs[0].mean for trial in measured}) < 2:
        return {}

    def distribution(domain: Domain) -> Any:
        if not domain.is_range:
            return CategoricalDistribution(domain.values)
        log = domain.kind == "loguniform"
        if domain.whole:
            return IntDistribution(int(domain.low), int(domain.high), log=log)
        return FloatDistribution(domain.low, domain.high, log=log)

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction="maximize")
    distributions = {key: distribution(domain) for key, domain in space.domains.items()}
    for trial in measured:
        study.add_trial(
            optuna.create_trial(params=trial.values, distributions=distributions, value=trial.rungs[0].mean)
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return dict(
            optuna.importance.get_param_importances(
                study, evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0)
            )
        )


def importance_bars(found: dict[str, float]) -> str:
    """The importances, the largest on top."""
    if not found:
        return ""
    keys = sorted(found, key=lambda key: found[key])
    figure, axes = _axes(6.4, 0.6 + 0.32 * len(keys))
    axes.barh(keys, [found[key] for key in keys], color="#3b6fb6")
    axes.set_xlabel("share of the variance explained")
    axes.spines[["top", "right"]].set_visible(False)
    return svg(figure)


def learning_curves(held: SearchResult) -> str:
    """Accuracy against iterations, with standard errors; where a trial was stopped its line ends in a cross."""
    measured = [trial for trial in held.trials if trial.rungs]
    if not measured:
        return ""
    figure, axes = _axes(7.4, 4.2)
    winner = held.winner.key if held.finished else None
    said: set[str] = set()
    for trial in sorted(measured, key=lambda trial: trial.key in (winner, held.given)):
        style, kind = _style(trial, winner, held.given)
        label = None if kind in said else kind
        said.add(kind)
        iterations = [rung.iteration for rung in trial.rungs]
        means, errors = [rung.mean for rung in trial.rungs], [rung.error for rung in trial.rungs]
        axes.errorbar(iterations, means, yerr=errors, label=label, capsize=2, elinewidth=0.7, **style)
        if trial.outcome in ("stopped", *FAILED):
            colour = "crimson" if trial.outcome in FAILED else style["color"]
            axes.plot(iterations[-1], means[-1], marker="x", color=colour, markersize=7, markeredgewidth=1.6)
    axes.set_xscale("log")
    axes.set_xticks(held.rungs, [str(rung) for rung in held.rungs])
    axes.minorticks_off()
    axes.set(xlabel="iterations", ylabel="validation accuracy, %")
    means = [rung.mean for trial in measured for rung in trial.rungs]
    lowest = lowest_shown(means)
    if lowest > min(means):
        axes.set_ylim(lowest, max(means) + MARGIN * (max(means) - lowest))
        below = sum(trial.rungs[-1].mean < lowest for trial in measured)
        axes.set_title(f"{below} of {len(measured)} trials ended below this scale", fontsize=9, color="#5b6577")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return svg(figure)


def lowest_shown(accuracies: Sequence[float] | np.ndarray) -> float:
    """Where a scale of accuracies begins: a few that came to nothing must not take up all of it."""
    worst, median, best = (float(x) for x in np.quantile(np.asarray(accuracies), (0, 0.5, 1)))
    return max(worst, best - FAR * (best - median)) if median < best else worst


def position(domain: Domain, value: Any) -> float:
    """Where a value stands on its axis, 0 to 1; a list of values stands at even distances, rising where it can."""
    if domain.kind == "loguniform":
        low, high, value = math.log(domain.low), math.log(domain.high), math.log(value)
    elif domain.is_range:
        low, high = domain.low, domain.high
    else:
        order = ordered(domain.values)
        low, high, value = 0, len(order) - 1, order.index(value)
    return (value - low) / (high - low) if high > low else 0.5


def ordered(values: Sequence[Any]) -> list[Any]:
    """Numbers in their order, anything else as it is given."""
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    return sorted(values) if numbers else list(values)


def ticks(domain: Domain) -> tuple[list[float], list[str]]:
    """Places on the axis, 0 to 1, and their labels."""
    if not domain.is_range:
        shown = ordered(domain.values)
    elif domain.kind == "loguniform":
        exponents = range(math.ceil(math.log10(domain.low) - 1e-9), math.floor(math.log10(domain.high) + 1e-9) + 1)
        shown = sorted({domain.low, domain.high, *(10.0**e for e in exponents)})
        # A power of ten next to an end would be written over it.
        shown = [v for v in shown if v in (domain.low, domain.high) or 0.07 < position(domain, v) < 0.93]
    else:
        shown = list(np.linspace(domain.low, domain.high, 5))
    return [position(domain, value) for value in shown], [_tick(value) for value in shown]


def _tick(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _mark(axes: Axes, held: SearchResult, trial: Trial, x: float, y: float) -> None:
    if held.finished and trial.key == held.winner.key:
        axes.scatter(x, y, marker="*", s=260, facecolors="none", edgecolors="crimson", linewidths=1.6, label="winner")
    if trial.key == held.given:
        axes.scatter(x, y, marker="s", s=110, facecolors="none", edgecolors="black", label="given", clip_on=False)


def _style(trial: Trial, winner: str | None, given: str) -> tuple[dict[str, Any], str]:
    if trial.key == winner:
        same = " (as given)" if trial.key == given else ""
        return {"color": "#c0392b", "linewidth": 2.4, "zorder": 5}, f"winner{same}"
    if trial.key == given:
        return {"color": "black", "linewidth": 1.6, "linestyle": "--", "zorder": 4}, "given"
    if trial.outcome == "finished":
        return {"color": "#3b6fb6", "linewidth": 1.1, "zorder": 3}, "finished"
    if trial.outcome in FAILED:
        return {"color": "#d9a0a0", "linewidth": 1.0, "zorder": 2}, "failed"
    return {"color": "#a9b1bf", "linewidth": 1.0, "zorder": 2}, "stopped early"


def _colour_bar(figure: Figure, axes: Axes, colours: ScalarMappable, held: SearchResult) -> None:
    worst = min(trial.rungs[0].mean for trial in held.trials if trial.rungs)
    below = worst < colours.get_clim()[0]
    bar = figure.colorbar(colours, ax=axes, extend="min" if below else "neither")
    bar.set_label(f"accuracy after {held.rungs[0]} iterations, %")


def _axes(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()
