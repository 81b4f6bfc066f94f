"""The stages in order. Each does only what is missing, so the same command resumes an interrupted run."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace

from pipeline import storage
from pipeline.condense.stage import condense
from pipeline.config.evaluate import SETS
from pipeline.config.parsing import from_dict, with_settings
from pipeline.config.run_config import RunConfig
from pipeline.config.validation import check, check_architecture
from pipeline.data.prepare import prepare
from pipeline.data.prepared_dataset import PreparedDataset, key_of
from pipeline.errors import FailedError, UserError
from pipeline.evaluate.compare import compare
from pipeline.evaluate.results import is_evaluated
from pipeline.evaluate.rows import Origins
from pipeline.evaluate.soft_labels import without_teacher
from pipeline.evaluate.stage import evaluate
from pipeline.evaluate.tables import table
from pipeline.evaluate.whole_set import whole_set_row
from pipeline.formats.arrow_schema import MANIFEST
from pipeline.formats.condensed_reader import condensed_folder, read_manifest
from pipeline.formats.peers import is_peer
from pipeline.formats.run_folder import RunFolder
from pipeline.observability import jsonl_log
from pipeline.observability.progress import console, say
from pipeline.pretrain.reader import read_experts, teacher_checksum
from pipeline.pretrain.stage import pretrain
from pipeline.runtime.lease import Lease
from pipeline.storage import s3
from pipeline.storage.documents import SEAL
from pipeline.storage.settings import activate
from pipeline.workflow.report import is_reported, report


def run_all(config: RunConfig, out: str) -> None:
    """Prepares, condenses, evaluates and reports; does nothing for a finished run."""
    folder = RunFolder.at(out)
    if _condensed(config, folder) and _evaluated(config, folder) and is_reported(folder.path):
        say(f"{folder}: this run is finished; nothing to do")
        return
    if config.evaluate.labels == "soft" and read_experts(folder, config.pretrain.architecture) is None:
        raise without_teacher(config, folder)  # before hours of condensing
    with _leased(folder):
        _condense(config, folder)
        if not _evaluated(config, folder):
            evaluate(config, folder, _class_shards(config, folder))
        report(folder.path)


def run_prepare(config: RunConfig, out: str) -> None:
    """Makes the class shards alone."""
    _use(config)
    folder = RunFolder.at(out)
    with _leased(folder):
        prepare(config, folder)


def run_pretrain(config: RunConfig, out: str) -> None:
    """Trains networks on the whole training set, in a run's folder or in one of their own."""
    _use(config)
    check_architecture(config.pretrain.architecture, "pretrain.architecture", config)
    folder = RunFolder.at(out)
    record = folder.read_record()
    if record is not None:
        folder.require_same_run(record, config)
    with _leased(folder):
        dataset = _class_shards(config, folder)
        trained, shares = pretrain(config, folder, dataset)
        row = whole_set_row(config, folder, dataset, trained, shares)
        console().print(table([row], config.evaluate.on))


def run_condense(config: RunConfig, out: str) -> None:
    """Condenses; makes the class shards first if they are missing."""
    folder = RunFolder.at(out)
    if _condensed(config, folder):
        say(f"condensed set: finished before, in {folder.condensed}")
        return
    with _leased(folder):
        _condense(config, folder)


def run_evaluate(
    path: str, settings: Sequence[str] = (), sets: Sequence[str] | None = None, data: str | None = None
) -> None:
    """Evaluates the condensed set of a run's folder, or a condensed set in a folder of its own.

    Args:
        path: the folder.
        settings: changes of evaluate.*, resources.* and storage.*, as ``--set`` takes them.
        sets: which training sets to compare. Defaults to every set but ``whole``.
        data: where the real images are, for a condensed set in a folder of its own.
    """
    folder, config = evaluated_run(path)
    config = with_settings(config, settings)
    names = tuple(sets) if sets else tuple(name for name in SETS if name != "whole")
    config = replace(config, evaluate=replace(config.evaluate, sets=names))
    if data is not None:
        if folder.read_record() is not None:
            raise UserError(f"--data {data}: {folder} is a run and keeps its own class shards; leave --data out")
        config = replace(config, data=replace(config.data, path=storage.absolute(data)))
    _use(config)
    with _leased(folder):
        dataset = _class_shards(config, folder)
        require_same_classes(folder, dataset)
        evaluate(config, folder, dataset)


def evaluated_run(path: str) -> tuple[RunFolder, RunConfig]:
    """The folder that evaluation.json belongs to, and its configuration: of a run, or of a condensed set alone.

    Raises:
        UserError: it is neither, or its condensed set is not finished.
    """
    folder = RunFolder.at(path)
    if folder.read_record() is None and storage.exists(folder.file(MANIFEST)):
        parent, _, name = folder.path.rpartition("/")
        if name != "condensed" or RunFolder(parent).read_record() is None:
            origin, stored = folder.file(MANIFEST), read_manifest(folder.path).get("config")
            if not isinstance(stored, dict):
                raise UserError(f"{origin}: does not say with which settings it was made, so it cannot be evaluated")
            return folder, from_dict(stored, origin=origin)
        folder = RunFolder(parent)
    config = folder.read_config()
    if not folder.is_committed():
        raise UserError(
            f"{folder}: its condensed set is not finished; finish it with `python -m pipeline condense` and the run's settings"
        )
    return folder, config


def require_same_classes(folder: RunFolder, dataset: PreparedDataset) -> None:
    """Raises UserError if the condensed set and the class shards are of different data."""
    manifest = read_manifest(condensed_folder(folder.path))
    ours, theirs = ([entry["name"] for entry in classes] for classes in (manifest["classes"], dataset.classes))
    if ours != theirs or list(manifest["shape"]) != list(dataset.manifest["shape"]):
        raise UserError(
            f"{folder}: its condensed set has {len(ours)} classes of {list(manifest['shape'])}, the class shards in {dataset.folder} "
            f"have {len(theirs)} of {list(dataset.manifest['shape'])}, or they are named otherwise; give the data that it was made of"
        )


def run_compare(paths: Sequence[str], config: RunConfig | None, settings: Sequence[str], out: str | None) -> None:
    """Compares condensed sets on the data of the first run among them, or on that of a configuration.

    Args:
        paths: runs, condensed sets and files of other projects.
        config: names the data if it is not that of a run; its class shards go below ``out`` then.
        settings: changes of evaluate.* and resources.*.
        out: folder of comparison.json.
    """
    if len(paths) < 2:
        raise UserError("compare: given one set; name two or more")
    home = RunFolder.at(out) if out else None
    if config is not None:
        if home is None:
            raise UserError("--out: needed with --preset or --config; class shards and comparison.json are kept there")
        config = with_settings(config, settings)
        _use(config)
        with _leased(home):
            compare(paths, config, prepare(config, home), home)
        return
    runs = [path for path in paths if not is_peer(path) and evaluated_run(path)[0].read_record() is not None]
    if not runs:
        raise UserError("compare: none of the sets is a run with class shards; name the data by --preset and --data")
    base, stored = evaluated_run(runs[0])
    config = with_settings(stored, settings)
    _use(config)
    dataset = _class_shards(config, base)
    if home is None:
        compare(paths, config, dataset)
    else:
        with _leased(home):
            compare(paths, config, dataset, home)


def run_report(out: str, settings: Sequence[str] = ()) -> None:
    """Writes grid.png and report.html of a run's folder; ``settings`` are storage.* that differ from its own."""
    folder = RunFolder.at(out)
    activate(folder.read_config(), settings)
    with _leased(folder):
        report(folder.path)


@contextlib.contextmanager
def _leased(folder: RunFolder) -> Iterator[None]:
    """Leases the folder to this driver alone; at the end writes its logs and reports repeated requests."""
    with Lease(folder) as lease:
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


def _use(config: RunConfig) -> None:
    """Activates the storage settings and checks that all settings fit each other. Raises UserError."""
    check(activate(config))


def _condense(config: RunConfig, folder: RunFolder) -> None:
    # Asked again under the lease: another driver may have finished the set in between.
    if not _condensed(config, folder):
        condense(config, folder, _class_shards(config, folder, condensing=True))


def _class_shards(config: RunConfig, folder: RunFolder, *, condensing: bool = False) -> PreparedDataset:
    """The class shards that the run began with, made again if they are gone.

    Raises:
        UserError: they are gone and the source has changed.
    """
    record = folder.read_record()
    if record is None:
        return prepare(config, folder, condensing=condensing)
    shards = record["resolved"]["class_shards"]
    if storage.exists(storage.join(shards, MANIFEST)):
        return PreparedDataset(shards, config.data)
    made = prepare(config, folder, condensing=condensing)
    if made.key != key_of(shards):
        raise UserError(
            f"{folder}: the source changed since this run began, and its class shards are gone; choose another --out"
        )
    return made


def _evaluated(config: RunConfig, folder: RunFolder) -> bool:
    condensed = folder.read_manifest()
    origins: Origins = {"condensed_set": condensed[SEAL]}
    if config.evaluate.labels == "soft":
        manifest = read_experts(folder, config.pretrain.architecture)
        if manifest is not None:  # one that was deleted since makes no finished row unfinished
            origins["teacher"] = teacher_checksum(manifest)
    return is_evaluated(config, folder, origins, len(condensed["classes"]))


def _condensed(config: RunConfig, folder: RunFolder) -> bool:
    """Whether the folder holds this run's finished set. Raises UserError if it holds another run."""
    _use(config)
    record = folder.read_record()
    if record is None:
        return False
    folder.require_same_run(record, config)
    return folder.is_committed()
