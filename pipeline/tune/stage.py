"""The ``tune`` command: prepare, search, the test set once, and what is handed back.

OUT/search.json      what is searched: configuration, space, classes, rungs
OUT/class-shards/    as of a run
OUT/trials/          a folder for each trial
OUT/search/          Ray Tune's own files; TensorBoard reads them
OUT/clock.json       seconds that all calls have searched
OUT/trials.parquet   a row for each trial
OUT/best.json        the winner's whole configuration, for ``run --config``
OUT/final.json       the winner and the given configuration on the test set
OUT/tune.html        the page of plots
"""

from dataclasses import dataclass, replace
from typing import Any

from typing_extensions import TypedDict

from pipeline import storage
from pipeline.config.parsing import differing_keys, from_dict, to_dict
from pipeline.config.run_config import RunConfig
from pipeline.config.validation import check
from pipeline.data.prepare import prepare, require_images
from pipeline.data.prepared_dataset import PreparedDataset
from pipeline.errors import UserError, listed
from pipeline.formats.provenance import commit, versions
from pipeline.formats.run_folder import RunFolder
from pipeline.formats.run_record import FREE
from pipeline.observability.progress import console, say
from pipeline.runtime import nodes, session
from pipeline.runtime.lease import Lease
from pipeline.runtime.placement import Placement
from pipeline.storage.documents import parsed, write_document
from pipeline.storage.settings import activate
from pipeline.tune.final_test import complete, tested
from pipeline.tune.page import write_page
from pipeline.tune.results import (
    BEST,
    TESTED,
    TRIALS,
    SearchResult,
    found,
    table,
    tested_table,
    write_best,
    write_trials,
)
from pipeline.tune.search import check_loggers, grid_size, search
from pipeline.tune.space import Space, default_space, space_of_file
from pipeline.tune.task import TrialTask, chosen_classes, measured_config, trial_rungs
from pipeline.tune.trial_store import TrialFolder

FILE = "search.json"


@dataclass(frozen=True, kw_only=True)
class SearchRequest:
    """What the command line asks for."""

    trials: int
    time_budget_s: float | None = None
    space: str | None = None
    """File of the search space."""
    resume: bool = False


def run_tune(config: RunConfig, out: str, wanted: SearchRequest) -> SearchResult:
    """Searches, or goes on with a search, and writes what it found.

    Raises:
        UserError: settings that are not allowed, a folder that holds another search, or one without ``resume``.
        FailedError: no trial was finished.
    """
    out = storage.absolute(out)
    if wanted.trials < 1:
        raise UserError(f"--trials {wanted.trials}: allowed: a number from 1")
    measured = measured_config(activate(config))
    check(measured)
    check_loggers(config)
    space = space_of_file(wanted.space, config) if wanted.space else default_space(config)
    if config.tune.searcher == "grid" and grid_size(space) > wanted.trials:
        raise UserError(
            f"--trials {wanted.trials}: the grid has {grid_size(space)} trials with the given configuration; allow them, "
            "or give fewer values with --space"
        )
    _refuse_another(out, config, space, wanted)
    with Lease(RunFolder.at(out)):
        # Asked again under the lease: another driver may have searched here in between.
        before = _refuse_another(out, config, space, wanted)
        return _tune(config, measured, space, out, wanted, moved=before is not None and before["out"] != out)


def _tune(
    config: RunConfig, measured: RunConfig, space: Space, out: str, wanted: SearchRequest, *, moved: bool
) -> SearchResult:
    session.start(config.resources)
    # What one trial needs is settled before anything is decoded.
    placement = nodes.placement(replace(measured, resources=_without_groups(config)), wanted.trials)
    task = _task(measured, prepare(measured, RunFolder(out)), out, placement)
    write_document(storage.join(out, FILE), _search_record(config, space, wanted, task, out))
    _say_plan(task, space, placement, wanted)
    trials = grid_size(space) if config.tune.searcher == "grid" else wanted.trials
    search(config, task, space, out, placement, trials=trials, time_budget_s=wanted.time_budget_s, moved=moved)
    complete(task, space.start, placement)
    held = found(task, space.start, tuple(space.domains))
    for trial in held.trials:  # those that the end of the time cut off
        TrialFolder(task.out, trial.key).settle("stopped")
    held = found(task, space.start, tuple(space.domains))
    write_trials(storage.join(out, TRIALS), held)
    winner, given = held.winner, held.default
    write_best(storage.join(out, BEST), config, winner)
    console().print(table(held))
    rows = _tested(config, task, held, out, placement)
    write_page(storage.join(out, "tune.html"), config, held, space, rows)
    for trial in held.trials:
        if trial is not winner and trial is not given:
            TrialFolder(task.out, trial.key).forget_state()
    say(f"best configuration: {storage.join(out, BEST)}, for `python -m pipeline run --config`")
    say(f"plots: {storage.join(out, 'tune.html')}")
    return held


def _task(measured: RunConfig, dataset: PreparedDataset, out: str, placement: Placement) -> TrialTask:
    counts = [entry["train"]["rows"] for entry in dataset.classes]
    labels = chosen_classes(counts, measured.tune.classes, measured.tune.seed)
    require_images(measured, {dataset.classes[label]["name"]: counts[label] for label in labels})
    return TrialTask(
        config=measured,
        out=storage.join(out, "trials"),
        cache=dataset.folder,
        labels=labels,
        rungs=trial_rungs(measured),
        threads=placement.threads,
        gpu_share=min(1.0, placement.gpus_per_actor or 1.0),
    )


def _tested(
    config: RunConfig, task: TrialTask, held: SearchResult, out: str, placement: Placement
) -> list[dict[str, Any]]:
    """The rows of final.json: of before, where they are of the same trials, since the test set is looked at once."""
    if config.tune.final == "none":
        return []
    path, winner, given = storage.join(out, TESTED), held.winner, held.default
    named = [("winner", winner)]
    if given is not None and given.outcome == "finished" and given is not winner:
        named.append(("given", given))
    asked = {"final": config.tune.final, "keys": [trial.key for _, trial in named]}
    before = storage.read_json(path) if storage.exists(path) else {}
    if {key: before.get(key) for key in asked} != asked:
        before = {**asked, "rows": tested(config, task, named, out, placement)}
        storage.write_json(path, before)
    console().print(tested_table(before["rows"]))
    return before["rows"]


def _search_record(config: RunConfig, space: Space, wanted: SearchRequest, task: TrialTask, out: str) -> dict[str, Any]:
    return {
        "out": out,
        "config": to_dict(config),
        "space": space.as_dict(),
        "start": space.start,
        "trials": wanted.trials,
        "time_budget_s": wanted.time_budget_s,
        "labels": list(task.labels),
        "rungs": list(task.rungs),
        "class_shards": task.cache,
        "versions": versions(),
        "commit": commit(),
    }


class _SearchRecord(TypedDict):
    """search.json, as far as it is read back."""

    out: str
    config: dict[str, Any]
    space: dict[str, Any]
    trials: int
    time_budget_s: float | None


def _refuse_another(out: str, config: RunConfig, space: Space, wanted: SearchRequest) -> _SearchRecord | None:
    """The record of this very search, or None where there is none.

    Raises:
        UserError: the folder holds a run, another search, or this one and it is not to go on.
    """
    if storage.exists(storage.join(out, "config.json")):
        raise UserError(f"{out}: holds a run; choose another --out for the search")
    try:
        held = storage.read_json(storage.join(out, FILE))
    except FileNotFoundError:
        return None
    if not wanted.resume:
        raise UserError(f"{out}: holds a search; add --resume to go on with it, or choose another --out")
    before = parsed(_SearchRecord, held, storage.join(out, FILE))
    # A setting that is younger than the record has its default there.
    settings = to_dict(from_dict(before["config"], origin=storage.join(out, FILE)))
    free = (*(key for key in FREE if key != "tune"), "tune.final")
    differing = [key for key in differing_keys(settings, to_dict(config)) if not key.startswith(free)]
    differing += [f"the space's {key}" for key in differing_keys(before["space"], space.as_dict())]
    differing += ["--trials"] if before["trials"] != wanted.trials else []
    differing += ["--time-budget"] if before["time_budget_s"] != wanted.time_budget_s else []
    if differing:
        raise UserError(
            f"{out}: holds a search that differs in {listed(differing)}; choose another --out, or give the same settings "
            "to go on with it"
        )
    return before


def _without_groups(config: RunConfig) -> Any:
    return replace(config.resources, classes_per_group=None)


def _say_plan(task: TrialTask, space: Space, placement: Placement, wanted: SearchRequest) -> None:
    each = f"{placement.cpus_per_actor:g} CPUs" + (
        f" and {placement.gpus_per_actor:g} GPUs" if placement.gpus_per_actor else ""
    )
    evaluate = task.config.evaluate
    say(
        f"tune: up to {wanted.trials} trials, {placement.actors} at a time with {each} each; {len(task.labels)} classes, "
        f"measured after {', '.join(map(str, task.rungs))} iterations by {evaluate.seeds} networks of {evaluate.epochs} "
        f"epochs on {task.config.data.validation_fraction:.0%} of the training images"
    )
    for line in space.described():
        say(f"  {line}")
