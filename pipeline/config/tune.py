"""Settings of a search (section ``tune``): the cost of a trial, the searcher and the scheduler."""

from dataclasses import dataclass
from typing import Literal

from m3d.config import at_least, check, check_choices
from m3d.training.settings import MOST_NETWORKS
from pipeline.config.loggers import check_loggers


@dataclass(frozen=True, kw_only=True)
class TuneSettings:
    """How ``tune`` searches. Runs do not use these settings."""

    searcher: Literal["optuna", "random", "grid"] = "optuna"
    """Algorithm that proposes trials. grid tries every combination, with five values per range."""
    scheduler: Literal["asha", "median", "none"] = "asha"
    """Rule that stops trials early: successive halving (asha), an accuracy below the other trials' median, or none."""
    seed: int = 0
    """Random seed of the searcher and of the choice of classes."""
    classes: int | None = None
    """Number of classes that a trial condenses. Defaults to all classes, at most 10."""
    iterations: int | None = None
    """Iterations of a complete trial. Defaults to condense.iterations, at most 500."""
    rungs: int = 3
    """Number of measurements of a trial: at its last iteration, at iterations / reduction, at iterations / reduction**2, ..."""
    reduction: int = 3
    """Ratio between the iterations of neighbouring rungs. asha lets the best 1 / reduction of the trials pass a rung."""
    epochs: int | None = None
    """Epochs of a trial's networks. Defaults to those of evaluate, at most 300."""
    seeds: int = 3
    """Number of networks per rung and architecture. Their seeds are 0, 1, ... in every trial."""
    validation_fraction: float = 0.2
    """Fraction of the training images on which accuracy is measured, if data.validation_fraction is 0."""
    final: Literal["trial", "whole", "none"] = "trial"
    """How the winner and the given configuration are tested: condensed like a trial, by a full run (whole), or not at all."""
    concurrent: int | None = None
    """Number of trials that run at the same time. Defaults to as many as fit on the cluster."""
    loggers: tuple[str, ...] = ()
    """Additional loggers: mlflow or wandb, which must be installed. TensorBoard's files are always written."""

    def __post_init__(self) -> None:
        check_choices(self, "tune")
        check("tune.seed", self.seed, 0 <= self.seed < 2**32, "an integer from 0, below 2**32")
        for name in ("classes", "iterations", "epochs"):
            if getattr(self, name) is not None:
                at_least(f"tune.{name}", getattr(self, name), 1)
        if self.concurrent is not None:
            at_least("tune.concurrent", self.concurrent, 1, 100_000)
        check("tune.rungs", self.rungs, 1 <= self.rungs <= 10, "an integer from 1 to 10")
        at_least("tune.reduction", self.reduction, 2, 1000)
        at_least("tune.seeds", self.seeds, 2, MOST_NETWORKS)  # one network shows no noise
        holds = 0 < self.validation_fraction < 1
        check("tune.validation_fraction", self.validation_fraction, holds, "a number above 0, below 1")
        check_loggers("tune.loggers", self.loggers)
