"""The ``tune`` command: prepare, search, the test set once, and the files for the user (see ``search_folder``)."""

from dataclasses import dataclass, replace

from pipeline.config.parsing import to_dict
from pipeline.config.run_config import RunConfig
from pipeline.config.validation import check
from pipeline.data.prepare import prepare, require_images
from pipeline.data.prepared_dataset import PreparedDataset
from pipeline.errors import UserError
from pipeline.formats.provenance import commit, origin_of, versions
from pipeline.formats.run_folder import RunFolder
from pipeline.observability.progress import console, say
from pipeline.observability.trackers.tracking import require_installed
from pipeline.runtime import nodes, session
from pipeline.runtime.lease import Lease
from pipeline.runtime.placement import Placement
from pipeline.storage.local.local_files import require_no_link
from pipeline.storage.settings import activate
from pipeline.tune.final_test import complete_start, final_rows
from pipeline.tune.page import write_page
from pipeline.tune.results import SearchResult, final_table, trials_table, write_best, write_trials
from pipeline.tune.search import Search, run_trials
from pipeline.tune.search_folder import FinalRow, SearchFolder, SearchRecord
from pipeline.tune.space import Space, default_space
from pipeline.tune.space_file import space_of_file
from pipeline.tune.task import TrialTask, chosen_classes, measured_config, trial_rungs
from pipeline.tune.trial_store import TrialFolder

MOST_TRIALS = 100_000
"""Most trials of a search."""


@dataclass(frozen=True, kw_only=True)
class SearchRequest:
    """What the command line asks for."""

    trials: int
    time_budget_s: float | None = None
    space: str | None = None
    """File of the search space. Defaults to ``default_space``."""
    resume: bool = False


def run_tune(config: RunConfig, out: str, request: SearchRequest) -> SearchResult:
    """Starts or resumes a search, and writes its results.

    Raises:
        UserError: settings that are not allowed, a folder that holds another search, or one without ``resume``.
        FailedError: no trial finished.
    """
    folder = SearchFolder.at(out)
    if not 1 <= request.trials <= MOST_TRIALS:
        raise UserError(f"--trials {request.trials}: allowed: a number from 1 to {MOST_TRIALS}")
    measured = measured_config(activate(config))
    check(measured)
    require_installed("tune.loggers", config.tune.loggers)
    space = space_of_file(request.space, config) if request.space else default_space(config)
    if config.tune.searcher == "grid" and space.grid_size > request.trials:
        raise UserError(
            f"--trials {request.trials}: the grid has {space.grid_size} trials, the given configuration included; allow "
            "as many, or give fewer values with --space"
        )
    record = _search_record(config, space, request, folder)
    _require_resumable(folder, record, config, resume=request.resume)
    with Lease(RunFolder(folder.path)):
        # Checked again under the lease: another driver may have searched here in between.
        _require_resumable(folder, record, config, resume=request.resume)
        return _tune(config, measured, space, folder, record)


def _tune(
    config: RunConfig, measured: RunConfig, space: Space, folder: SearchFolder, record: SearchRecord
) -> SearchResult:
    session.start(config.resources)
    # The resources of a trial are checked before anything is decoded.
    resources = replace(config.resources, classes_per_group=None)
    placement = nodes.placement(replace(measured, resources=resources), record["trials"])
    task = _task(measured, prepare(measured, RunFolder(folder.path)), folder, placement)
    search = Search(
        config=config,
        task=task,
        space=space,
        folder=folder,
        placement=placement,
        trials=space.grid_size if config.tune.searcher == "grid" else record["trials"],
        time_budget_s=record["time_budget_s"],
    )
    folder.write_record(
        {
            **record,
            "labels": list(task.labels),
            "rungs": list(task.rungs),
            "class_shards": task.class_shards,
            "versions": versions(),
            "commit": commit(),
        }
    )
    _say_plan(search, record["trials"])
    run_trials(search)
    complete_start(search)
    for trial in search.result().trials:  # those that the end of the time budget interrupted
        TrialFolder(task.out, trial.key).settle("stopped")
    result = search.result()
    _write_results(search, result)
    return result


def _write_results(search: Search, result: SearchResult) -> None:
    """Writes the tables, the winner and the page, and deletes the checkpoints that are of no further use."""
    folder, task = search.folder, search.task
    write_trials(folder.trials_table, result)
    winner, start = result.winner, result.start
    write_best(folder.best, search.config, winner)
    console().print(trials_table(result))
    dataset = PreparedDataset(task.class_shards, search.config.data)
    name = origin_of(search.config.data, len(dataset.classes), dataset.counts)["name"]
    write_page(folder.page, search.config, result, search.space, _final_rows(search, result), name=name)
    for trial in result.trials:
        if trial is not winner and trial is not start:
            TrialFolder(task.out, trial.key).delete_checkpoint()
    say(f"best configuration: {folder.best}, for `python -m pipeline run --config`")
    say(f"plots: {folder.page}")


def _final_rows(search: Search, result: SearchResult) -> list[FinalRow]:
    """Returns the rows of final.json, from the file if they are of the same trials: the test set is used once."""
    final = search.config.tune.final
    if final == "none":
        return []
    winner, start = result.winner, result.start
    named = [("winner", winner)]
    if start is not None and start.outcome == "finished" and start is not winner:
        named.append(("given", start))
    rows = search.folder.read_final(final, [trial.key for _, trial in named])
    if rows is None:
        rows = final_rows(search, named)
        search.folder.write_final(final, rows)
    console().print(final_table(rows))
    return rows


def _task(measured: RunConfig, dataset: PreparedDataset, folder: SearchFolder, placement: Placement) -> TrialTask:
    counts = [entry["train"]["rows"] for entry in dataset.classes]
    labels = chosen_classes(counts, measured.tune.classes, measured.tune.seed)
    require_images(measured, {dataset.classes[label]["name"]: counts[label] for label in labels})
    return TrialTask(
        config=measured,
        out=folder.trials,
        class_shards=dataset.folder,
        labels=labels,
        rungs=trial_rungs(measured),
        threads=placement.threads,
        gpu_share=min(1.0, placement.gpus_per_actor or 1.0),
    )


def _search_record(config: RunConfig, space: Space, request: SearchRequest, folder: SearchFolder) -> SearchRecord:
    """Returns what search.json says of a search before its classes are known."""
    return SearchRecord(
        out=folder.path,
        config=to_dict(config),
        space=space.as_dict(),
        start=space.start,
        trials=request.trials,
        time_budget_s=request.time_budget_s,
    )


def _require_resumable(folder: SearchFolder, record: SearchRecord, config: RunConfig, *, resume: bool) -> None:
    """Raises UserError if the folder holds a run, another search, this one without ``--resume``, or links for folders."""
    if folder.holds_run():
        raise UserError(f"{folder}: holds a run; choose another --out for the search")
    if not folder.holds_search():
        return
    if not resume:
        raise UserError(f"{folder}: holds a search; add --resume to resume it, or choose another --out")
    for path in (folder.trials, folder.full_runs, RunFolder(folder.path).class_shards):
        require_no_link(path)
    before = folder.read_record()
    if before is not None:
        folder.require_same_search(before, record, config)


def _say_plan(search: Search, trials: int) -> None:
    """Prints what a trial takes and how it is measured."""
    task, placement, evaluate = search.task, search.placement, search.task.config.evaluate
    gpus = f" and {placement.gpus_per_actor:g} GPUs" if placement.gpus_per_actor else ""
    say(
        f"tune: up to {trials} trials, {placement.actors} at a time with {placement.cpus_per_actor:g} CPUs{gpus} each; "
        f"{len(task.labels)} classes, measured after {', '.join(map(str, task.rungs))} iterations by {evaluate.seeds} "
        f"networks of {evaluate.epochs} epochs on {task.config.data.validation_fraction:.0%} of the training images"
    )
    for line in search.space.described():
        say(f"  {line}")
