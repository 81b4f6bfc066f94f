"""How much of the accuracy each setting explains, at the first rung, where all trials were measured."""

import warnings
from collections.abc import Mapping

from pipeline.observability.pages import new_axes
from pipeline.observability.pages.figures import ACCENT
from pipeline.tune.page.scale import svg_of
from pipeline.tune.results import SearchResult
from pipeline.tune.space import Space

LEAST_TRIALS = 4
"""Number of trials below which importance cannot be estimated."""


def importance(result: SearchResult, space: Space) -> dict[str, float]:
    """Returns the share of the accuracy's variance that each setting explains alone; empty for too few trials.

    Source: Hutter et al., "An efficient approach for assessing hyperparameter importance" (2014), as in Optuna.
    """
    import optuna

    measured = [trial for trial in result.trials if trial.rungs]
    if len(measured) < LEAST_TRIALS or len({trial.rungs[0].mean for trial in measured}) < 2:
        return {}
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction="maximize")
    distributions = {key: domain.distribution() for key, domain in space.domains.items()}
    for trial in measured:
        accuracy = trial.rungs[0].mean
        study.add_trial(optuna.create_trial(params=trial.values, distributions=distributions, value=accuracy))
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))


def importance_bars(importances: Mapping[str, float]) -> str:
    """Draws the importances, the largest on top. Returns SVG, empty if there are none."""
    if not importances:
        return ""
    keys = sorted(importances, key=lambda key: importances[key])
    axes = new_axes(5.6, 0.6 + 0.32 * len(keys))
    axes.barh(keys, [importances[key] for key in keys], color=ACCENT)
    axes.set_xlabel("share of the variance explained")
    alt = "Importance: " + ", ".join(f"{key} {importances[key]:.2f}" for key in reversed(keys))
    return svg_of(axes, alt, grid="x")
