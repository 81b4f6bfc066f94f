"""The stages in order. Each does only what is missing, so the same command resumes an interrupted run."""

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace

from pipeline.condense.group_store import remove_committed_groups
from pipeline.condense.stage import condense
from pipeline.config.evaluate import SETS
from pipeline.config.parsing import to_dict, with_settings
from pipeline.config.run_config import RunConfig
from pipeline.config.validation import check, check_architecture
from pipeline.data.prepare import look_at_source, prepare
from pipeline.data.prepared_dataset import PreparedDataset
from pipeline.errors import FailedError, UserError
from pipeline.evaluate.compare import compare
from pipeline.evaluate.rows import tracked_results
from pipeline.evaluate.stage import evaluate
from pipeline.evaluate.tables import table
from pipeline.evaluate.whole_set import whole_set_row
from pipeline.formats.peers import is_peer
from pipeline.formats.provenance import named, without_places
from pipeline.formats.run_folder import RunFolder
from pipeline.observability import jsonl_log
from pipeline.observability.progress import console, observed_by, say
from pipeline.observability.prometheus import StageMetrics
from pipeline.observability.trackers.tracking import require_installed, track_results, track_settings, tracked_by
from pipeline.pretrain.stage import pretrain
from pipeline.runtime import session
from pipeline.runtime.lease import Lease
from pipeline.storage import s3
from pipeline.storage.settings import activate, adopt
from pipeline.workflow import expected
from pipeline.workflow.report import report, write_comparison
from pipeline.workflow.run_state import Run, require_same_classes, stored_run


def run_all(config: RunConfig, out: str) -> None:
    """Prepares, condenses, evaluates and reports. Does nothing if the run is finished."""
    _use(config)
    run = Run.at(out, config)
    if run.is_finished():
        _tidy(run.folder)
        say(f"{run.folder}: this run is finished; nothing to do")
        return
    run.require_teacher()  # before hours of condensing
    with _leased(run.folder, config):
        _condense(run, announce=True)
        if not run.is_evaluated():
            dataset = run.class_shards()
            _track_settings(config, dataset)
            evaluate(config, run.folder, dataset)
        report(run.folder, run.found_class_shards())


def run_prepare(config: RunConfig, out: str) -> None:
    """Makes the class shards and runs no other stage."""
    _use(config)
    folder = RunFolder.at(out)
    with _leased(folder):
        prepare(config, folder)


def run_look(config: RunConfig) -> None:
    """Prints how the source would be read; decodes and writes nothing."""
    _use(config)
    look_at_source(config)


def run_pretrain(config: RunConfig, out: str) -> None:
    """Trains networks on the full training set, in a run's folder or in one of their own, and prints their accuracy."""
    _use(config)
    check_architecture(config.pretrain.architecture, "pretrain.architecture", config)
    run = Run.at(out, config)
    run.require_no_other()
    with _leased(run.folder, config):
        dataset = run.class_shards()
        _track_settings(config, dataset)
        trained, shares = pretrain(config, run.folder, dataset)
        row = whole_set_row(config, run.folder, dataset, trained, shares)
        track_results(tracked_results(row))
        console().print(table([row], config.evaluate.on))


def run_condense(config: RunConfig, out: str) -> None:
    """Condenses. Makes the class shards first if they are missing."""
    _use(config)
    run = Run.at(out, config)
    if run.is_condensed():
        _tidy(run.folder)
        say(f"condensed set: already finished, in {run.folder.condensed}")
        return
    with _leased(run.folder, config):
        _condense(run)


def run_evaluate(
    path: str, settings: Sequence[str] = (), sets: Sequence[str] | None = None, data: str | None = None
) -> None:
    """Evaluates the condensed set of a run, or a condensed set in a folder of its own.

    Args:
        path: the folder.
        settings: changes of evaluate.*, resources.*, storage.* and of the paths of data, as ``--set`` accepts them.
        sets: names of the training sets to compare. Defaults to every set but ``whole``.
        data: path of the real images, for a folder without class shards.

    Raises:
        UserError: ``data`` is given for a run that has its class shards, or the data have other classes than the condensed set.
    """
    stored = stored_run(path, settings)
    if data is not None:
        if stored.has_class_shards():
            raise UserError(f"--data {data}: {stored.folder} is a run and keeps its own class shards; omit --data")
        stored = stored_run(path, [*settings, f"data.path={json.dumps(data)}"])
    names = tuple(sets) if sets else tuple(name for name in SETS if name != "whole")
    config = replace(stored.config, evaluate=replace(stored.config.evaluate, sets=names))
    _use(config)
    stored.require_harmless()
    folder = stored.folder
    with _leased(folder, config):
        dataset = replace(stored, config=config).class_shards()
        require_same_classes(folder, dataset)
        _track_settings(config, dataset)
        evaluate(config, folder, dataset)


def run_compare(paths: Sequence[str], config: RunConfig | None, settings: Sequence[str], out: str | None) -> None:
    """Compares condensed sets on the data of the first run among them, or on the data of a configuration.

    Args:
        paths: runs, condensed sets and files of other projects; two or more.
        config: names the data, whose class shards are then stored below ``out``. None: the data of the first run.
        settings: changes of evaluate.*, resources.*, storage.* and of the paths of data, as ``--set`` accepts them.
        out: folder of comparison.json. None: no file is written.

    Raises:
        UserError: fewer than two sets, a configuration without ``out``, or neither a configuration nor a run.
    """
    if len(paths) < 2:
        raise UserError("compare: given one set; give two or more")
    home = RunFolder.at(out) if out else None
    if config is None:
        _compare_on_run(paths, settings, home)
        return
    if home is None:
        raise UserError("--out: needed with --preset or --config; class shards and comparison.json are stored there")
    config = with_settings(config, settings)
    _use(config)
    with _leased(home):
        dataset = prepare(config, home)
        _compare(paths, config, dataset, home)


def _compare_on_run(paths: Sequence[str], settings: Sequence[str], home: RunFolder | None) -> None:
    stored = [stored_run(path, settings) for path in paths if not is_peer(path)]
    runs = [run for run in stored if run.folder.read_record() is not None]
    if not runs:
        raise UserError("compare: none of the sets is a run with class shards; name the data by --preset and --data")
    base = runs[0]
    _use(base.config)
    base.require_harmless()
    dataset = base.class_shards()
    with _leased(home) if home else contextlib.nullcontext():
        _compare(paths, base.config, dataset, home)


def _compare(paths: Sequence[str], config: RunConfig, dataset: PreparedDataset, home: RunFolder | None) -> None:
    rows = compare(paths, config, dataset, home)
    if home is not None:
        write_comparison(home, rows, classes=len(dataset.classes), on=config.evaluate.on)


def run_report(out: str, settings: Sequence[str] = ()) -> None:
    """Writes grid.png and report.html of a run. ``settings`` are changes of report.*, storage.* and the paths of data."""
    folder = RunFolder.at(out)
    adopted = adopt(folder.read_config(), settings)
    run = Run(config=adopted.config, folder=folder, is_adopted=True, left_out=adopted.left_out)
    with _leased(folder):
        dataset = run.found_class_shards()
        report(folder, dataset, config=adopted.config, missing=run.why_no_class_shards() if dataset is None else "")


def _condense(run: Run, *, announce: bool = False) -> None:
    """Condenses what is missing; a new run says first how long it and its evaluation will take, if ``announce``."""
    # Checked again under the lease: another driver may have finished the set in between.
    if run.is_condensed():
        return
    is_new = run.folder.read_record() is None
    dataset = run.class_shards(condensing=True)
    if is_new and announce:
        session.start(run.config.resources)
        for line in expected.lines(run.config, dataset):
            say(line)
    _track_settings(run.config, dataset)
    condense(run.config, run.folder, dataset)


def _tidy(folder: RunFolder) -> None:
    """Removes what a command left that was killed after its last result: its lease, and what it was about to remove."""
    lease = Lease(folder)
    if lease.is_left_behind():
        with contextlib.suppress(UserError, FailedError), lease:  # another driver may have taken the folder since
            remove_committed_groups(folder)


@contextlib.contextmanager
def _leased(folder: RunFolder, config: RunConfig | None = None) -> Iterator[None]:
    """Leases the folder to this driver alone. At the end, writes the folder's logs and reports repeated requests.

    Args:
        folder: of the run.
        config: names the trackers that the stages are sent to. None: nothing is tracked.
    """
    out = folder.path.rstrip("/").rsplit("/", 1)[-1]
    loggers = config.report.loggers if config else ()
    tracked = tracked_by(loggers, name=out, document=folder.trackers)
    with Lease(folder) as lease, observed_by(StageMetrics(out)), tracked:
        try:
            yield
        except BaseException:
            if lease.lost:
                jsonl_log.forget()
            with contextlib.suppress(UserError, FailedError):  # the first error is the one that is reported
                jsonl_log.flush()
            raise
        else:
            jsonl_log.flush()
        finally:
            if s3.retries():
                say(f"{s3.retries()} requests to the storage were sent again")


def _track_settings(config: RunConfig, dataset: PreparedDataset) -> None:
    """Sends the settings to the trackers, but for those that say where something is."""
    name = named(config.data, len(dataset.classes), dataset.counts)
    track_settings(to_dict(without_places(config, name)))


def _use(config: RunConfig) -> None:
    """Activates the storage settings and checks that all settings fit each other. Raises UserError."""
    check(activate(config))
    require_installed("report.loggers", config.report.loggers)
