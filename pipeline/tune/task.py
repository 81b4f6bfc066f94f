"""What the trials of a search have in common: classes, split, rungs, and how long networks train. No Ray here."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from m3d.seeding import derive
from m3d.training.protocols import training_of
from pipeline import storage
from pipeline.config.parsing import to_dict
from pipeline.config.run_config import RunConfig
from pipeline.data.prepared_dataset import key_of
from pipeline.errors import UserError
from pipeline.tune.trial_store import TrialFolder

MOST_CLASSES = 10
"""Default number of classes of a trial."""
MOST_ITERATIONS = 500
"""Default iterations of a trial: on CIFAR-10 they give most of the accuracy of the full schedule."""
MOST_EPOCHS = 300
"""Default epochs of a trial's networks."""


def rung_iterations(iterations: int, rungs: int, reduction: int) -> tuple[int, ...]:
    """Returns the iterations at which a trial is measured, rising up to ``iterations``; equal ones count once."""
    rising = (max(1, round(iterations / reduction**step)) for step in range(rungs))
    return tuple(sorted(set(rising)))


@dataclass(frozen=True, kw_only=True)
class TrialTask:
    """What the trials of a search have in common."""

    config: RunConfig
    """Given configuration, with the split, the epochs and the seeds of the trials' networks."""
    out: str
    """Folder of the trials' folders."""
    class_shards: str
    """Folder of the class shards."""
    labels: tuple[int, ...]
    """Labels of the classes that are condensed, rising."""
    rungs: tuple[int, ...]
    """Iterations at which a trial is measured, rising."""
    threads: int
    """Threads of PyTorch in a trial's process."""
    gpu_share: float = 1.0
    """Fraction of a GPU's memory that a trial may use."""

    def key(self, values: Mapping[str, Any]) -> str:
        """Returns the name of a trial: a checksum of its values and of everything else that its accuracy depends on."""
        config = to_dict(self.config)
        data = {name: config["data"][name] for name in ("validation_fraction", "split_seed")}
        parts = {
            **{name: config[name] for name in ("seed", "kernel", "augment", "encoder", "condense")},
            "evaluate": {name: value for name, value in config["evaluate"].items() if name != "labels"},  # always hard
            "data": data,
            "shards": key_of(self.class_shards),
            "labels": self.labels,
            "rungs": self.rungs,
            "values": dict(values),
        }
        return storage.sha256(json.dumps(parts, sort_keys=True).encode())[:16]

    def folder(self, values: Mapping[str, Any]) -> TrialFolder:
        """Returns the folder of a trial."""
        return TrialFolder(self.out, self.key(values))


def measured_config(config: RunConfig) -> RunConfig:
    """Returns the configuration of the trials: scored on the validation split, with the search's seeds and epochs."""
    settings, epochs = config.tune, training_of(config.evaluate).epochs
    fraction = config.data.validation_fraction or settings.validation_fraction
    return replace(
        config,
        data=replace(config.data, validation_fraction=fraction),
        evaluate=replace(
            config.evaluate,
            on="validation",
            labels="hard",
            seeds=settings.seeds,
            epochs=settings.epochs or min(epochs, MOST_EPOCHS),
        ),
    )


def trial_rungs(config: RunConfig) -> tuple[int, ...]:
    """Returns the iterations at which the trials of a search are measured."""
    iterations = config.tune.iterations or min(config.condense.iterations, MOST_ITERATIONS)
    return rung_iterations(iterations, config.tune.rungs, config.tune.reduction)


def chosen_classes(counts: Sequence[int], number: int | None, seed: int) -> tuple[int, ...]:
    """Returns the labels of the classes that trials condense, rising: one drawn from each stratum.

    Classes are sorted by size, those of equal size by label, and cut into as many strata as there are classes to
    choose. Small and large classes are therefore chosen in proportion, and so are kinds of classes if names are
    sorted by kind.

    Args:
        counts: training images of every class.
        number: how many classes to choose. Defaults to all of them, at most ``MOST_CLASSES``.
        seed: random seed of the choice.

    Raises:
        UserError: more classes than there are, or a single one.
    """
    total = len(counts)
    if number is not None and not 2 <= number <= total:
        raise UserError(f"tune.classes: given {number}, allowed: 2 to {total}, the classes of the run")
    if total < 2:
        raise UserError(f"tune: needs at least two classes, this run has {total}")
    number = min(total, number or MOST_CLASSES)
    order = sorted(range(total), key=lambda label: (counts[label], label))
    edges = [total * i // number for i in range(number + 1)]
    strata = [order[edges[i] : edges[i + 1]] for i in range(number)]
    return tuple(sorted(part[derive(seed, "tune/classes", i) % len(part)] for i, part in enumerate(strata)))
