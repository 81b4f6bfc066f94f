"""Settings of an evaluation: m3d's choice of networks and trainings, and what the pipeline trains them on."""

from dataclasses import dataclass
from typing import Literal

import m3d.training.settings
from m3d.config import at_least, check

SETS = ("condensed", "random", "mosaic", "herding", "k_center", "class_mean", "whole")


@dataclass(frozen=True, kw_only=True)
class Evaluate(m3d.training.settings.Evaluate):
    """Networks trained on the condensed set, and how."""

    labels: Literal["hard", "soft"] = "hard"
    """Labels of the training images; soft: class probabilities of a teacher that `pretrain` stored in the run's folder, in separate rows."""
    sets: tuple[str, ...] = ("condensed", "random", "mosaic")
    """Training sets that `run` compares: condensed, random, mosaic, herding, k_center, class_mean or whole."""
    best_epoch: int = 0
    """Epochs between measurements of the test accuracy; the best is reported separately, as best_epoch_compatibility. 0 measures the last epoch only."""
    together: int = 0
    """Networks of different seeds that are trained as one, with stacked weights; 1 trains one after another, 0 chooses. Soft labels and best_epoch always train one after another."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Whether the networks are compiled; auto: if the training is long enough to benefit."""
    on: Literal["test", "validation"] = "test"
    """Images that networks are scored on; validation: the part of the training data that data.validation_fraction holds out."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("best_epoch", self.best_epoch, 0)
        at_least("together", self.together, 0, m3d.training.settings.MOST_NETWORKS)
        known = bool(self.sets) and set(self.sets) <= set(SETS)
        check("sets", list(self.sets), known, f"some of {', '.join(SETS)}")
