"""Settings of a search (the ``tune`` section): what a trial costs, who proposes the next one, and who stops it."""

from dataclasses import dataclass
from typing import Literal

from m3d.config import at_least, check, check_choices

LOGGERS = ("mlflow", "wandb")


@dataclass(frozen=True, kw_only=True)
class TuneSettings:
    """How ``tune`` searches. A run takes nothing from here."""

    searcher: Literal["optuna", "random", "grid"] = "optuna"
    """Who proposes trials; grid takes every combination, five values of a range."""
    scheduler: Literal["asha", "median", "none"] = "asha"
    """Who stops trials early: successive halving, below the median of the others, or nobody."""
    seed: int = 0
    """Of the searcher, and of the classes that are chosen."""
    classes: int | None = None
    """Classes that a trial condenses; all of them up to 10 when not given."""
    iterations: int | None = None
    """Iterations of a whole trial; condense.iterations, at most 500, when not given."""
    rungs: int = 3
    """Times that a trial is measured: at the end, and at iterations / reduction, / reduction**2, ..."""
    reduction: int = 3
    """Ratio of the iterations of neighbouring rungs; asha lets one of as many trials pass a rung."""
    epochs: int | None = None
    """Epochs of a trial's networks; those of evaluate, at most 300, when not given."""
    seeds: int = 3
    """Networks of every rung and architecture, with seeds 0, 1, ...: the same for all trials."""
    validation_fraction: float = 0.2
    """Part of the training images that accuracies are measured on, where data.validation_fraction is 0."""
    final: Literal["trial", "whole", "none"] = "trial"
    """How the winner and the given configuration meet the test set: condensed like a trial, or as a whole run."""
    concurrent: int | None = None
    """Trials at a time; as many as the cluster holds when not given."""
    loggers: tuple[str, ...] = ()
    """Also log to mlflow or wandb, where they are installed; TensorBoard's files are always written."""

    def __post_init__(self) -> None:
        check_choices(self, "tune")
        check("tune.seed", self.seed, 0 <= self.seed < 2**32, "an integer from 0, below 2**32")
        for name in ("classes", "iterations", "epochs", "concurrent"):
            if getattr(self, name) is not None:
                at_least(f"tune.{name}", getattr(self, name), 1)
        check("tune.rungs", self.rungs, 1 <= self.rungs <= 10, "an integer from 1 to 10")
        at_least("tune.reduction", self.reduction, 2)
        at_least("tune.seeds", self.seeds, 2)  # one network says nothing of the noise
        holds = 0 < self.validation_fraction < 1
        check("tune.validation_fraction", self.validation_fraction, holds, "a number above 0, below 1")
        for name in self.loggers:
            check("tune.loggers", list(self.loggers), name in LOGGERS, f"a selection of {', '.join(LOGGERS)}")
