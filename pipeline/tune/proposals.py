"""The trials that a search still has to run: those that were interrupted first, then new ones.

The records of the trials are the only state of a search. When it is resumed, the proposals are made again from the
start with the same seed, and every trial that has ended is reported with its recorded accuracy instead of being run.
The random numbers are therefore those of a search that was never interrupted, and so are the proposals, provided that
trials ran one at a time and none was proposed twice: neither the order in which parallel trials end nor a repetition
is recorded exactly.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import numpy as np
import optuna
from optuna.trial import TrialState
from ray import tune
from ray.tune.search import Searcher
from ray.tune.search.variant_generator import generate_variants

from pipeline.config.tune import TuneSettings
from pipeline.tune.schedulers import METRIC, final_accuracy
from pipeline.tune.space import Domain, Space, Values
from pipeline.tune.task import TrialTask
from pipeline.tune.trial_store import TrialRecord

STARTUP_TRIALS = 10
"""Trials that TPE draws at random before it uses accuracies, as in Optuna; at most a third of all trials."""


def proposals(task: TrialTask, space: Space, trials: int, records: Iterable[TrialRecord]) -> Searcher:
    """Returns the searcher that ``tune.searcher`` names, in the state that the records imply.

    Args:
        task: what the trials have in common.
        space: what is searched, and the first trial.
        trials: number of trials of the search, recorded ones included.
        records: trials of earlier calls, in the order in which they began.
    """
    settings = task.config.tune
    if settings.searcher == "optuna":
        return OptunaProposals(task, space, trials, list(records))
    return ListedProposals(task, islice(planned_values(settings, space), trials), list(records))


def planned_values(settings: TuneSettings, space: Space) -> Iterator[Values]:
    """Yields the values of a grid, or random ones without end; Ray Tune draws both."""
    is_grid, rng = settings.searcher == "grid", np.random.default_rng(settings.seed)
    spec = {"config": {key: _tune_domain(domain, is_grid) for key, domain in space.domains.items()}}
    if not (is_grid and space.start_is_on_grid):
        yield space.start
    while True:
        for _, variant in generate_variants(spec, random_state=rng):
            yield dict(variant["config"])
        if is_grid:
            return


def _tune_domain(domain: Domain, is_grid: bool) -> object:
    """A domain as Ray Tune draws from it."""
    if is_grid:
        return tune.grid_search(list(domain.points()))
    if not domain.is_range:
        return tune.choice(list(domain.values))
    if domain.whole:
        low, high = int(domain.low), int(domain.high) + 1
        return tune.lograndint(low, high) if domain.kind == "loguniform" else tune.randint(low, high)
    return (tune.loguniform if domain.kind == "loguniform" else tune.uniform)(domain.low, domain.high)


class ListedProposals(Searcher):
    """Proposals that do not depend on accuracies: a grid, or random values."""

    def __init__(self, task: TrialTask, planned: Iterable[Values], records: list[TrialRecord]) -> None:
        super().__init__(metric=METRIC, mode="max")
        recorded = {record.key for record in records}
        interrupted = [record.values for record in records if not record.has_ended]
        self._values = [*interrupted, *(values for values in planned if task.key(values) not in recorded)]

    def suggest(self, trial_id: str) -> Any:
        """Returns the next values, or ``FINISHED`` after the last ones."""
        return self._values.pop(0) if self._values else Searcher.FINISHED

    def on_trial_complete(self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False) -> None:
        """Does nothing: accuracies do not decide what is proposed."""

    def save(self, checkpoint_path: str) -> None:
        """Does nothing: the records of the trials are the state."""


class OptunaProposals(Searcher):
    """Proposals by Optuna's TPE, through Optuna's ask-and-tell interface."""

    def __init__(self, task: TrialTask, space: Space, trials: int, records: list[TrialRecord]) -> None:
        super().__init__(metric=METRIC, mode="max")
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        startup = min(STARTUP_TRIALS, max(1, trials // 3))
        sampler = optuna.samplers.TPESampler(seed=task.config.tune.seed, n_startup_trials=startup)
        self._study = optuna.create_study(direction="maximize", sampler=sampler, pruner=optuna.pruners.NopPruner())
        self._study.enqueue_trial(space.start)
        self._distributions = {key: domain.distribution() for key, domain in space.domains.items()}
        self._asked: dict[str, optuna.Trial] = {}
        self._interrupted: list[optuna.Trial] = []
        self._replay(task, records)

    def suggest(self, trial_id: str) -> Values:
        """Returns the values of an interrupted trial, or new ones."""
        trial = self._interrupted.pop(0) if self._interrupted else self._study.ask(self._distributions)
        self._asked[trial_id] = trial
        return self._values(trial)

    def on_trial_complete(self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False) -> None:
        """Tells Optuna the accuracy of a trial; one without any is pruned, or failed if its process was lost."""
        self._tell(self._asked.pop(trial_id), (result or {}).get(METRIC), error=error)

    def save(self, checkpoint_path: str) -> None:
        """Does nothing: the records of the trials are the state."""

    def _replay(self, task: TrialTask, records: list[TrialRecord]) -> None:
        """Asks Optuna for every recorded trial, and tells it those that have ended, in the order of these moments."""
        waiting = {record.key: record for record in records}
        asked: dict[str, optuna.Trial] = {}
        ended: dict[str, TrialRecord] = {}
        for record, ends in _moments(records):
            if ends:
                ended[record.key] = record
            else:
                trial = self._study.ask(self._distributions)
                key = task.key(self._values(trial))
                if key not in waiting:
                    # Parallel trials ended in another order, or an older version resumed with another seed.
                    self._tell(trial, None, error=True)
                    key = record.key if record.key in waiting else next(iter(waiting))
                    self._study.enqueue_trial(waiting[key].values)
                    trial = self._study.ask(self._distributions)
                asked[key] = trial
                if not waiting.pop(key).has_ended:
                    self._interrupted.append(trial)
            for key in asked.keys() & ended.keys():
                self._tell(asked.pop(key), final_accuracy(task, ended.pop(key)))

    def _values(self, trial: optuna.Trial) -> Values:
        return {key: trial.params[key] for key in self._distributions}

    def _tell(self, trial: optuna.Trial, accuracy: float | None, *, error: bool = False) -> None:
        without = TrialState.FAIL if error else TrialState.PRUNED
        self._study.tell(trial, accuracy, state=without if accuracy is None else TrialState.COMPLETE)


def _moments(records: Iterable[TrialRecord]) -> list[tuple[TrialRecord, bool]]:
    """Each record where its trial began, and once more (with True) where it ended, in order of time."""
    moments = [(record.began, False, record) for record in records]
    moments += [
        (record.began + (record.last.seconds if record.last else 0.0), True, record)
        for record in records
        if record.has_ended
    ]
    moments.sort(key=lambda moment: moment[:2])
    return [(record, ends) for _, ends, record in moments]
