"""Fills the page's template."""

import json
from collections.abc import Sequence

from pipeline import storage
from pipeline.config.parsing import to_dict
from pipeline.config.run_config import RunConfig
from pipeline.observability.pages import render
from pipeline.tune.page.heat_map import heat_map
from pipeline.tune.page.importance import importance, importance_bars
from pipeline.tune.page.learning_curves import learning_curves
from pipeline.tune.page.parallel_coordinates import parallel_coordinates
from pipeline.tune.results import SearchResult, accuracy_text, best_config, remark, seeds_text, value_text
from pipeline.tune.search_folder import FinalRow
from pipeline.tune.space import Space
from pipeline.tune.task import measured_config
from pipeline.tune.trial_store import FAILED

COUNTED = {"finished": ("finished",), "stopped": ("stopped",), "failed": FAILED}
"""Outcomes that the page counts, by the name that it gives them."""


def write_page(
    path: str, config: RunConfig, result: SearchResult, space: Space, rows: Sequence[FinalRow], *, name: str
) -> None:
    """Writes the page.

    Args:
        path: file to write, local or a URL.
        config: given configuration.
        result: the trials, at least one of them finished.
        space: what was searched.
        rows: of final.json, the winner first; empty if the test set was not used.
        name: of the data that were read.
    """
    ties, measured = result.ties, measured_config(config)
    shown = [
        {
            "number": result.number(trial),
            "remark": remark(result, trial, ties) or trial.outcome,
            "accuracy": accuracy_text(trial.last),
            "iterations": trial.last.iteration if trial.last else 0,
            "values": [value_text(trial.values[key]) for key in result.searched],
            "why": trial.why,
            "winner": trial.key == result.winner.key,
        }
        for trial in result.ordered
    ]
    page = render(
        "pipeline.tune.page",
        "page.html.jinja",
        title=name,
        trials=shown,
        keys=result.searched,
        counts={name: sum(t.outcome in outcomes for t in result.trials) for name, outcomes in COUNTED.items()},
        ties=len(ties),
        winner=[(key, value_text(space.start[key]), value_text(result.winner.values[key])) for key in result.searched],
        rungs=result.rungs,
        measured=measured,
        tested=[{**row, "validation": seeds_text(row["validation"]), "test": seeds_text(row["test"])} for row in rows],
        final=config.tune.final,
        heat=heat_map(result, space),
        parallel=parallel_coordinates(result, space),
        importance=importance_bars(importance(result, space)),
        curves=learning_curves(result),
        space=space.described(),
        best=json.dumps(to_dict(best_config(config, result.winner)), indent=2),
    )
    storage.write_bytes(path, page.encode())
