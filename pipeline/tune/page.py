"""tune.html: what a search found, in one file that needs no other."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline import storage
from pipeline.config.parsing import to_dict
from pipeline.config.run_config import RunConfig
from pipeline.observability.pages import render
from pipeline.tune.plots import heat_map, importance, importance_bars, learning_curves, parallel_coordinates
from pipeline.tune.results import SearchResult, accuracy_text, best_config, remark, value_text
from pipeline.tune.space import Space
from pipeline.tune.task import measured_config
from pipeline.tune.trial_store import Rung

COUNTED = {"finished": ("finished",), "stopped": ("stopped",), "failed": ("failed", "lost")}
"""What the page counts."""


def write_page(
    path: str, config: RunConfig, held: SearchResult, space: Space, rows: Sequence[Mapping[str, Any]]
) -> None:
    """Writes the page.

    Args:
        path: of the file.
        config: as given.
        held: the trials, at least one of them finished.
        space: what was searched.
        rows: of final.json, the winner first; none where the test set was not looked at.
    """
    ties, measured = held.ties, measured_config(config)
    shown = [
        {
            "number": held.number(trial),
            "remark": remark(held, trial, ties) or trial.outcome,
            "accuracy": accuracy_text(trial.last),
            "iterations": trial.last.iteration if trial.last else 0,
            "values": [value_text(trial.values[key]) for key in held.searched],
            "why": trial.why,
            "winner": trial.key == held.winner.key,
        }
        for trial in held.ordered
    ]
    page = render(
        "pipeline.tune",
        "page.html.jinja",
        title=config.data.name or config.data.source,
        trials=shown,
        keys=held.searched,
        counts={name: sum(t.outcome in kinds for t in held.trials) for name, kinds in COUNTED.items()},
        ties=len(ties),
        winner=[(key, value_text(space.start[key]), value_text(held.winner.values[key])) for key in held.searched],
        rungs=held.rungs,
        measured=measured,
        tested=[{**row, "validation": _text(row["validation"]), "test": _text(row["test"])} for row in rows],
        final=config.tune.final,
        heat=heat_map(held, space),
        parallel=parallel_coordinates(held, space),
        importance=importance_bars(importance(held, space)),
        curves=learning_curves(held),
        space=space.described(),
        best=json.dumps(to_dict(best_config(config, held.winner)), indent=2),
    )
    storage.write_bytes(path, page.encode())


def _text(accuracies: Sequence[float]) -> str:
    return accuracy_text(Rung(iteration=0, accuracies=tuple(accuracies), seconds=0.0) if accuracies else None)
