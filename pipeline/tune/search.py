"""The search itself: Ray Tune proposes values, runs a trial for each in a process of its own, and stops the poor ones."""

import importlib.util
import os
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from ray import tune
from ray.tune.search.basic_variant import BasicVariantGenerator
from ray.tune.search.optuna import OptunaSearch

from pipeline import storage
from pipeline.config.run_config import RunConfig
from pipeline.errors import UserError
from pipeline.observability.progress import say
from pipeline.runtime import nodes
from pipeline.runtime.devices import device_of_actor
from pipeline.runtime.placement import Placement, capacity
from pipeline.storage import arrow_files
from pipeline.tune import experiment_state
from pipeline.tune.monitor import TuneMonitor, close, search_seconds
from pipeline.tune.results import SearchResult, found
from pipeline.tune.schedulers import BUDGET, METRIC, scheduler, told
from pipeline.tune.space import Domain, Space
from pipeline.tune.task import TrialTask
from pipeline.tune.trial import TrialFailedError, run_trial

NAME = "search"
"""Folder of Ray Tune's own files, TensorBoard's among them."""
STATE_EVERY_S = {True: "1", False: "10"}
"""Seconds between two stores of Tune's own state, on a local folder and elsewhere."""


def search(
    config: RunConfig,
    task: TrialTask,
    space: Space,
    out: str,
    placement: Placement,
    *,
    trials: int,
    time_budget_s: float | None,
    moved: bool = False,
) -> None:
    """Runs the trials that are missing; what they found is in their records.

    Args:
        config: as given; ``tune`` says how to search.
        task: what all trials have in common.
        space: what is varied, and the first trial.
        out: the search's folder, absolute.
        placement: what a trial takes.
        trials: at most, in all.
        time_budget_s: of all calls together, None for no bound.
        moved: the folder was another one when Ray Tune wrote its files, which name it.
    """
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"  # an interrupt ends the command; the state on disk is a second old
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"  # the other kind prints a banner at any verbosity
    os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", STATE_EVERY_S[storage.is_local(out)])
    concurrent = config.tune.concurrent or _slots(placement)
    if concurrent:
        # Ray would start one process after another; as many as there is room for may start together.
        os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(concurrent)
    needed = {"cpu": placement.cpus_per_actor, "gpu": placement.gpus_per_actor}
    objective = tune.with_resources(_objective(task), {name: share for name, share in needed.items() if share})
    folder = storage.join(out, NAME)
    filesystem, root = arrow_files.file_system(folder)
    held = found(task, space.start, tuple(space.domains))
    if not moved and experiment_state.is_whole(folder, {trial.key for trial in held.trials}, task.key):
        say(f"tune: goes on with the search in {out}")
        # Those that failed by their values return at once, from their records.
        _fit(tune.Tuner.restore(root, objective, resume_errored=True, storage_filesystem=filesystem))
        return
    if held.trials:
        # Its trials are told first, in their order, from their records: searcher and scheduler stand where they stood.
        say(
            f"tune: Ray Tune's own state in {folder} is not whole; {len(held.trials)} trials are told from their records"
        )
    spent = search_seconds(out)
    if time_budget_s is not None and spent:
        time_budget_s = max(1.0, time_budget_s - spent)
    tuner = tune.Tuner(
        objective,
        param_space=parameters(space, config.tune.searcher),
        tune_config=tune.TuneConfig(
            metric=METRIC,
            mode="max",
            num_samples=_samples(config, space, trials),
            search_alg=_searcher(config, space, held, trials, concurrent or 0),
            scheduler=scheduler(config, task),
            max_concurrent_trials=concurrent,
            time_budget_s=time_budget_s,
            reuse_actors=True,
            trial_dirname_creator=Named(task),
        ),
        run_config=tune.RunConfig(
            name=NAME,
            storage_path=root.rsplit("/", 1)[0],
            storage_filesystem=filesystem,
            failure_config=tune.FailureConfig(max_failures=config.resources.attempts - 1),
            callbacks=[TuneMonitor(task, trials, task.key(space.start), out), *_loggers(config, out)],
            verbose=0,
        ),
    )
    _fit(tuner)


def _slots(placement: Placement) -> int | None:
    """Trials that the cluster holds at a time, or None where it may grow."""
    if nodes.autoscales():
        return None
    return max(1, capacity(placement.cpus_per_actor, placement.gpus_per_actor, nodes.nodes()))


def _fit(tuner: tune.Tuner) -> None:
    with warnings.catch_warnings():
        # A trial that goes on tells its rungs again, which Optuna's restored state may hold already.
        warnings.filterwarnings("ignore", message="The reported value is ignored", category=UserWarning)
        try:
            tuner.fit()
        finally:
            close()


def parameters(space: Space, searcher: str) -> dict[str, Any]:
    """The space as Ray Tune has it."""
    return {key: _parameter(domain, searcher) for key, domain in space.domains.items()}


def grid_size(space: Space) -> int:
    """Trials of a grid, the given configuration among them."""
    size = 1
    for domain in space.domains.values():
        size *= len(domain.points())
    return size + (not on_grid(space))


def on_grid(space: Space) -> bool:
    """Whether the given configuration is a point of the grid."""
    return all(space.start[key] in domain.points() for key, domain in space.domains.items())


def _samples(config: RunConfig, space: Space, trials: int) -> int:
    """As Ray counts them: a grid is one, the point before it another."""
    if config.tune.searcher != "grid":
        return trials
    return 1 if on_grid(space) else 2


def check_loggers(config: RunConfig) -> None:
    """Raises UserError where a logger that is asked for is not installed."""
    for name in config.tune.loggers:
        if importlib.util.find_spec(name) is None:
            raise UserError(f"tune.loggers: {name} is not installed; pip install {name}, or leave it out")


class Named:
    """Names a trial's folder among Tune's own files after its folder below OUT/trials."""

    def __init__(self, task: TrialTask) -> None:
        self.task = task

    def __call__(self, trial: Any) -> str:
        return f"{self.task.key(trial.config)}-{trial.trial_id}"


def _objective(task: TrialTask) -> Callable[[Mapping[str, Any]], None]:
    def objective(values: Mapping[str, Any]) -> None:
        budget = 1
        try:
            for rung in run_trial(task, values, device_of_actor()):
                budget = told(task.config, task, rung)[BUDGET] * task.config.tune.reduction
                tune.report(told(task.config, task, rung))
        except TrialFailedError:
            # It is recorded. Told as no accuracy at all, so that the searcher learns where not to look.
            highest = task.config.tune.reduction ** (len(task.rungs) - 1)
            tune.report({METRIC: 0.0, BUDGET: min(budget, highest), "standard_error": 0.0, "iterations": 0})

    return objective


def _parameter(domain: Domain, searcher: str) -> Any:
    if searcher == "grid":
        return tune.grid_search(list(domain.points()))
    if not domain.is_range:
        return tune.choice(list(domain.values))
    if domain.whole:
        low, high = int(domain.low), int(domain.high) + 1
        return tune.lograndint(low, high) if domain.kind == "loguniform" else tune.randint(low, high)
    return (tune.loguniform if domain.kind == "loguniform" else tune.uniform)(domain.low, domain.high)


def _searcher(config: RunConfig, space: Space, held: SearchResult, trials: int, concurrent: int) -> Any:
    """Proposes the given configuration first. After a lost state: what was proposed before, in the same order."""
    points = [trial.values for trial in held.trials] or [space.start]
    # Points that are told draw no numbers: with the same seed the ones that follow would be those over again.
    seed = (config.tune.seed + len(held.trials)) % 2**32
    if config.tune.searcher == "grid":
        first = None if on_grid(space) else [space.start]
        return BasicVariantGenerator(points_to_evaluate=first, max_concurrent=concurrent)
    if config.tune.searcher == "random":
        return BasicVariantGenerator(points_to_evaluate=points, random_state=seed, max_concurrent=concurrent)
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    # A third of the trials at random, at most Optuna's own ten, before what they tell is used.
    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=min(10, max(1, trials // 3)))
    return OptunaSearch(points_to_evaluate=points, sampler=sampler)


def _loggers(config: RunConfig, out: str) -> list[Any]:
    made: list[Any] = []
    title = out.rstrip("/").rsplit("/", 1)[-1]
    if "mlflow" in config.tune.loggers:
        from ray.air.integrations.mlflow import MLflowLoggerCallback

        made.append(MLflowLoggerCallback(experiment_name=title))
    if "wandb" in config.tune.loggers:
        from ray.air.integrations.wandb import WandbLoggerCallback

        made.append(WandbLoggerCallback(project="m3d-condense", group=title))
    return made
