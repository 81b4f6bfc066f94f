"""Proposals: those of earlier versions, and in a resumed search those of a search that was never interrupted."""

from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import optuna
import pytest
from ray import tune
from ray.tune.experiment import Experiment
from ray.tune.search import Searcher
from ray.tune.search.basic_variant import BasicVariantGenerator
from ray.tune.search.optuna import OptunaSearch

from pipeline.tune.proposals import planned_values, proposals
from pipeline.tune.schedulers import METRIC, final_accuracy
from pipeline.tune.space import Domain, Space, Values, default_space
from pipeline.tune.task import TrialTask
from pipeline.tune.trial_store import TrialRecord
from tests.pipeline.support.searches import example_search, example_task, keyed, rung

TRIALS = 24


def small_space(task: TrialTask) -> Space:
    """The default space with a range of integers."""
    space = default_space(task.config)
    batch = Domain(kind="uniform", low=8, high=64, whole=True)
    steps = Domain(kind="loguniform", low=1, high=20, whole=True)
    domains = {**space.domains, "condense.batch_real": batch, "condense.iterations_per_model": steps}
    return Space(domains=domains, start={**space.start, "condense.batch_real": 16})


def record_of(task: TrialTask, number: int, values: Values) -> TrialRecord:
    """What a trial with these values comes to: finished, stopped after a rung, failed, or stopped before any."""
    accuracy = 50 + 40 / (1 + abs(values["condense.learning_rate"] - 2)) + values["kernel.scales"]
    rungs = (rung(3, accuracy, accuracy + 1), rung(9, accuracy + 5, accuracy + 7))
    outcome = ("finished", "stopped", "failed", "stopped")[number % 4]
    return TrialRecord(
        key=task.key(values),
        values=values,
        began=100.0 * number,
        rungs=rungs[: (2, 1, 1, 0)[number % 4]],
        outcome=outcome,
    )


def search_one_by_one(task: TrialTask, searcher: Searcher, count: int, first: int = 0) -> list[TrialRecord]:
    """Runs a searcher with one trial at a time, as Ray Tune does."""
    records = []
    for number in range(first, first + count):
        values = searcher.suggest(f"trial{number}")
        assert isinstance(values, dict)
        records.append(record_of(task, number, values))
        accuracy = final_accuracy(task, records[-1])
        searcher.on_trial_complete(f"trial{number}", {} if accuracy is None else {METRIC: accuracy})
    return records


@pytest.mark.parametrize("interrupted_after", [0, 1, 5, 8, 23])
@pytest.mark.parametrize("searcher", ["optuna", "random"])
def test_a_resumed_search_proposes_what_an_uninterrupted_one_does(
    tmp_path: Path, searcher: str, interrupted_after: int
) -> None:
    task = example_task(tmp_path, f"tune.searcher={searcher}", "tune.seed=5")
    space = small_space(task)
    expected = search_one_by_one(task, proposals(task, space, TRIALS, []), TRIALS)
    before = expected[:interrupted_after]
    resumed = proposals(task, space, TRIALS, before)
    after = search_one_by_one(task, resumed, TRIALS - interrupted_after, interrupted_after)
    assert [record.values for record in after] == [record.values for record in expected[interrupted_after:]]
    assert not {record.key for record in before} & {record.key for record in after}


@pytest.mark.parametrize("searcher", ["optuna", "random"])
def test_interrupted_trials_are_run_first(tmp_path: Path, searcher: str) -> None:
    task = example_task(tmp_path, f"tune.searcher={searcher}")
    space = small_space(task)
    expected = search_one_by_one(task, proposals(task, space, TRIALS, []), TRIALS)
    before = [replace(record, outcome="running") if at in (4, 9) else record for at, record in enumerate(expected[:10])]
    resumed = proposals(task, space, TRIALS, before)
    assert resumed.suggest("a") == expected[4].values
    assert resumed.suggest("b") == expected[9].values
    assert resumed.suggest("c") not in [record.values for record in expected[:10]]
    for trial in ("b", "a"):
        resumed.on_trial_complete(trial, {METRIC: 60.0})
    resumed.on_trial_complete("c", error=True)
    assert resumed.suggest("d")


@pytest.mark.parametrize("searcher", ["optuna", "random"])
def test_records_with_other_proposals_count_too(tmp_path: Path, searcher: str) -> None:
    """Parallel trials end in another order, and older versions resumed with another seed."""
    task = example_task(tmp_path, f"tune.searcher={searcher}")
    example, space = example_search()
    stored = list(keyed(example, task).trials)
    resumed: Any = proposals(task, space, TRIALS, stored)
    if searcher == "optuna":
        completed = [trial.params for trial in resumed._study.trials if trial.state.is_finished() and trial.values]
        assert sorted(map(task.key, completed)) == sorted(record.key for record in stored)
    proposed = [resumed.suggest(f"t{number}") for number in range(TRIALS - len(stored))]
    assert all(isinstance(values, dict) and task.key(values) not in {r.key for r in stored} for values in proposed)


def test_optuna_is_asked_as_by_ray(tmp_path: Path) -> None:
    """Searches that began with Ray's OptunaSearch are resumed with the same proposals."""
    task = example_task(tmp_path, "tune.seed=3")
    space = small_space(task)
    ours = search_one_by_one(task, proposals(task, space, TRIALS, []), TRIALS)
    sampler = optuna.samplers.TPESampler(seed=3, n_startup_trials=8)
    rays = OptunaSearch(points_to_evaluate=[space.start], sampler=sampler)
    rays.set_search_properties(METRIC, "max", tune_space(space))
    assert [record.values for record in search_one_by_one(task, rays, TRIALS)] == [record.values for record in ours]


def tune_space(space: Space) -> Values:
    """The space in Ray's terms."""
    drawn = {
        "kernel.bandwidth_multiplier": tune.loguniform(0.1, 10.0),
        "condense.learning_rate": tune.loguniform(0.03, 10.0),
        "condense.batch_real": tune.randint(8, 65),
        "condense.iterations_per_model": tune.lograndint(1, 21),
    }
    return {key: drawn.get(key) or tune.choice(list(domain.values)) for key, domain in space.domains.items()}


def variants(generator: BasicVariantGenerator, parameters: Values, samples: int) -> list[Values]:
    """What Ray's own generator proposes."""
    generator.add_configurations(Experiment("e", run=lambda config: None, config=parameters, num_samples=samples))
    trials = iter(generator.next_trial, None)
    return [trial.config for trial in trials if trial is not None]


def test_random_values_are_those_of_ray(tmp_path: Path) -> None:
    task = example_task(tmp_path, "tune.searcher=random", "tune.seed=3")
    space = small_space(task)
    generator = BasicVariantGenerator(points_to_evaluate=[space.start], random_state=3)
    planned = list(islice(planned_values(task.config.tune, space), 6))
    assert planned == variants(generator, tune_space(space), 6)


@pytest.mark.parametrize("multiplier", [1.0, 0.7])
def test_a_grid_is_that_of_ray(tmp_path: Path, multiplier: float) -> None:
    task = example_task(tmp_path, "tune.searcher=grid", f"kernel.bandwidth_multiplier={multiplier}")
    scales = Domain(kind="grid", values=(1, 3, 5))
    domains = {"kernel.bandwidth_multiplier": Domain(kind="loguniform", low=0.1, high=10.0), "kernel.scales": scales}
    space = Space(domains=domains, start={"kernel.bandwidth_multiplier": multiplier, "kernel.scales": 5})
    grids = {key: tune.grid_search(list(domain.points())) for key, domain in domains.items()}
    first = [] if space.start_is_on_grid else [space.start]
    expected = variants(BasicVariantGenerator(points_to_evaluate=first), grids, 1 + len(first))
    planned = list(planned_values(task.config.tune, space))
    assert planned == expected
    assert len(planned) == space.grid_size == 15 + len(first)
    searcher = proposals(task, space, 16, [])
    proposed = list(iter(lambda: searcher.suggest("t"), Searcher.FINISHED))
    assert proposed == expected
