"""What the trials of a search have in common: classes, split, rungs and how long networks train. No Ray here."""

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
"""Classes of a trial where nothing is said."""
MOST_ITERATIONS = 500
"""Iterations of a trial where nothing is said: on CIFAR-10 that many give most of what the full schedule gives."""
MOST_EPOCHS = 300
"""Epochs of a trial's networks where nothing is said."""


def rung_iterations(iterations: int, rungs: int, reduction: int) -> tuple[int, ...]:
    """Iterations at which a trial is measured: rising, the last one ``iterations``; fewer where they coincide."""
    wanted = (max(1, round(iterations / reduction**step)) for step in range(rungs))
    return tuple(sorted(set(wanted)))


@dataclass(frozen=True, kw_only=True)
class TrialTask:
    """What the trials of a search have in common."""

    config: RunConfig
    """The given configuration, with the split, the epochs and the seeds that trials are measured by."""
    out: str
    """Folder of the trials' folders."""
    cache: str
    """Folder of the class shards."""
    labels: tuple[int, ...]
    """Classes that are condensed, rising."""
    rungs: tuple[int, ...]
    """Iterations at which a trial is measured, rising."""
    threads: int
    gpu_share: float = 1.0
    """Part of a GPU's memory that a trial may use."""

    def key(self, values: Mapping[str, Any]) -> str:
        """The name of a trial: a checksum of its values and of all else that decides its accuracy, but for rounding."""
        config = to_dict(self.config)
        data = {name: config["data"][name] for name in ("validation_fraction", "split_seed")}
        parts = {
            **{name: config[name] for name in ("seed", "kernel", "augment", "encoder", "condense")},
            "evaluate": {name: value for name, value in config["evaluate"].items() if name != "labels"},  # always hard
            "data": data,
            "shards": key_of(self.cache),
            "labels": self.labels,
            "rungs": self.rungs,
            "values": dict(values),
        }
        return storage.sha256(json.dumps(parts, sort_keys=True).encode())[:16]

    def folder(self, values: Mapping[str, Any]) -> TrialFolder:
        """Where a trial is kept."""
        return TrialFolder(self.out, self.key(values))


def measured_config(config: RunConfig) -> RunConfig:
    """The configuration that trials are measured by: on the validation split, with the search's seeds and epochs."""
    wanted, epochs = config.tune, training_of(config.evaluate).epochs
    fraction = config.data.validation_fraction or wanted.validation_fraction
    return replace(
        config,
        data=replace(config.data, validation_fraction=fraction),
        evaluate=replace(
            config.evaluate,
            on="validation",
            labels="hard",
            seeds=wanted.seeds,
            epochs=wanted.epochs or min(epochs, MOST_EPOCHS),
        ),
    )


def trial_rungs(config: RunConfig) -> tuple[int, ...]:
    """Iterations at which the trials of a search are measured."""
    iterations = config.tune.iterations or min(config.condense.iterations, MOST_ITERATIONS)
    return rung_iterations(iterations, config.tune.rungs, config.tune.reduction)


def chosen_classes(counts: Sequence[int], wanted: int | None, seed: int) -> tuple[int, ...]:
    """Labels of the classes that trials condense: one out of each stratum, seeded.

    Classes in the order of their size (of their labels, where those are equal) are cut into as many strata as
    classes are wanted: small and large classes are there in proportion, and of names that are sorted by kind, all
    kinds.

    Args:
        counts: training images of every class.
        wanted: how many; ``MOST_CLASSES`` at most when not given.
        seed: of the choice.

    Raises:
        UserError: more classes than there are, or a single one.
    """
    total = len(counts)
    if wanted is not None and not 2 <= wanted <= total:
        raise UserError(f"tune.classes: given {wanted}, allowed: 2 to {total}, the classes of the run")
    if total < 2:
        raise UserError(f"tune: needs two classes to tell apart, this run has {total}")
    wanted = min(total, wanted or MOST_CLASSES)
    order = sorted(range(total), key=lambda label: (counts[label], label))
    edges = [total * i // wanted for i in range(wanted + 1)]
    strata = [order[edges[i] : edges[i + 1]] for i in range(wanted)]
    return tuple(sorted(part[derive(seed, "tune/classes", i) % len(part)] for i, part in enumerate(strata)))
