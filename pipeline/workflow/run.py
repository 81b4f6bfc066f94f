"""The stages in order. Each does only what is missing, so repeating a command goes on where it ended."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace

from m3d.config import SETS
from pipeline import storage
from pipeline.condense.group_store import GroupStore
from pipeline.condense.stage import condense
from pipeline.config.parsing import from_dict
from pipeline.config.run_config import RunConfig
from pipeline.config.validation import check, check_architecture
from pipeline.data.prepare import prepare
from pipeline.data.prepared_dataset import PreparedDataset
from pipeline.errors import FailedError, UserError
from pipeline.evaluate.compare import compare
from pipeline.evaluate.results import is_evaluated
from pipeline.evaluate.soft_labels import without_teacher
from pipeline.evaluate.stage import evaluate
from pipeline.evaluate.tables import table
from pipeline.evaluate.whole_set import whole_set_row
from pipeline.formats.arrow_schema import MANIFEST
from pipeline.formats.condensed_reader import condensed_folder, read_manifest
from pipeline.formats.peer_files import is_peer
from pipeline.formats.run_record import check_same_run, read_run
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
    """prepare, condense, evaluate and report; a finished run says so and does nothing."""
    out = storage.absolute(out)
    if _condensed(config, out) and _evaluated(config, out) and is_reported(out):
        say(f"{out}: this run is finished; nothing to do")
        return
    if config.evaluate.labels == "soft" and read_experts(out, config.pretrain.architecture) is None:
        raise without_teacher(config, out)  # said before hours of condensing
    with _held(out):
        _condense(config, out)
        if not _evaluated(config, out):
            evaluate(config, out, _class_shards(config, out))
        report(out)


def run_prepare(config: RunConfig, out: str) -> None:
    """The class shards alone."""
    check(activate(config))
    out = storage.absolute(out)
    with _held(out):
        prepare(config, out)


def run_pretrain(config: RunConfig, out: str) -> None:
    """Networks trained on the whole training set, in a run's folder or in one of their own."""
    check(activate(config))
    check_architecture(config.pretrain.architecture, "pretrain.architecture", config)
    out = storage.absolute(out)
    record = read_run(out)
    if record is not None:
        check_same_run(out, record, config)
    with _held(out):
        folder = _class_shards(config, out)
        trained, shares = pretrain(config, out, folder)
        row = whole_set_row(config, out, PreparedDataset(folder, config.data), trained, shares)
        console().print(table([row], config.evaluate.on))


def run_condense(config: RunConfig, out: str) -> None:
    """prepare where it is missing, then condense."""
    out = storage.absolute(out)
    if _condensed(config, out):
        say(f"condensed set: finished before, in {storage.join(out, 'condensed')}")
        return
    with _held(out):
        _condense(config, out)


def run_evaluate(
    given: str, settings: Sequence[str] = (), sets: Sequence[str] | None = None, data: str | None = None
) -> None:
    """evaluate the condensed set of a run's folder, or a condensed set in a folder of its own.

    Args:
        given: the folder.
        settings: changes of evaluate.*, resources.* and storage.*, as ``--set`` takes them.
        sets: what is compared; every set but the whole one when not given.
        data: where the real images are, for a condensed set in a folder of its own.
    """
    out, config = evaluated_run(given)
    config = activate(config, settings)
    names = tuple(sets) if sets else tuple(name for name in SETS if name != "whole")
    config = replace(config, evaluate=replace(config.evaluate, sets=names))
    if data is not None:
        if read_run(out) is not None:
            raise UserError(f"--data {data}: {out} is a run and keeps its own class shards; leave --data out")
        config = replace(config, data=replace(config.data, path=storage.absolute(data)))
    check(config)
    with _held(out):
        folder = _class_shards(config, out)
        require_same_classes(out, PreparedDataset(folder, config.data))
        evaluate(config, out, folder)


def evaluated_run(given: str) -> tuple[str, RunConfig]:
    """The folder that evaluation.json belongs to, and its configuration: of a run, or of a condensed set alone.

    Raises:
        UserError: it is neither, or its condensed set is not finished.
    """
    out = storage.absolute(given)
    if read_run(out) is None and storage.exists(storage.join(out, MANIFEST)):
        above, _, name = out.rpartition("/")
        if name != "condensed" or read_run(above) is None:
            origin = storage.join(out, MANIFEST)
            held = read_manifest(out).get("config")
            if not isinstance(held, dict):
                raise UserError(f"{origin}: does not say with which settings it was made, so it cannot be evaluated")
            return out, from_dict(held, origin=origin)
        out = above
    config = stored_config(out)
    if not GroupStore(out, "").committed():
        raise UserError(
            f"{out}: its condensed set is not finished; finish it with `python -m pipeline condense` and the run's settings"
        )
    return out, config


def require_same_classes(out: str, cache: PreparedDataset) -> None:
    """Raises UserError where the condensed set and the class shards are of different data."""
    manifest = read_manifest(condensed_folder(out))
    ours, theirs = ([entry["name"] for entry in held] for held in (manifest["classes"], cache.classes))
    if ours != theirs or list(manifest["shape"]) != list(cache.manifest["shape"]):
        raise UserError(
            f"{out}: its condensed set has {len(ours)} classes of {list(manifest['shape'])}, the class shards in {cache.folder} "
            f"have {len(theirs)} of {list(cache.manifest['shape'])}, or they are named otherwise; give the data that it was made of"
        )


def run_compare(given: Sequence[str], config: RunConfig | None, settings: Sequence[str], out: str | None) -> None:
    """compare condensed sets on the data of the first run among them, or on that of a configuration.

    Args:
        given: runs, condensed sets and files of other projects.
        config: names the data where it is not that of a run; its class shards go below ``out`` then.
        settings: changes of evaluate.* and resources.*.
        out: folder of comparison.json.
    """
    if len(given) < 2:
        raise UserError("compare: given one set; name two or more")
    home = storage.absolute(out) if out else None
    if config is not None:
        if home is None:
            raise UserError("--out: needed with --preset or --config; class shards and comparison.json are kept there")
        config = activate(config, settings)
        check(config)
        with _held(home):
            folder = prepare(config, home)
            compare(given, config, folder, home)
        return
    runs = [one for one in given if not is_peer(one) and read_run(evaluated_run(one)[0]) is not None]
    if not runs:
        raise UserError("compare: none of the sets is a run with class shards; name the data by --preset and --data")
    base, stored = evaluated_run(runs[0])
    config = activate(stored, settings)
    check(config)
    folder = _class_shards(config, base)
    if home is None:
        compare(given, config, folder)
    else:
        with _held(home):
            compare(given, config, folder, home)


def run_report(out: str, settings: Sequence[str] = ()) -> None:
    """grid.png and report.html of a run's folder; ``settings`` are storage.* that differ from its own."""
    out = storage.absolute(out)
    activate(stored_config(out), settings)
    with _held(out):
        report(out)


def stored_config(out: str) -> RunConfig:
    """The configuration that a run's folder was made with. Raises UserError where it is no run's folder."""
    record = read_run(out)
    if record is None:
        what = "holds no run (no config.json)" if storage.exists(out) else "does not exist"
        raise UserError(f"{out}: {what}; give the folder that was --out of `run` or `condense`")
    return from_dict(record, origin=storage.join(out, "config.json"))


@contextlib.contextmanager
def _held(out: str) -> Iterator[None]:
    """The run's folder, this driver's alone; in the end its logs are written and repeated requests are told."""
    with Lease(out) as lease:
        try:
            yield
        except BaseException:
            if lease.lost:
                jsonl_log.forget()
            with contextlib.suppress(UserError, FailedError):  # what came first is what is told
                jsonl_log.flush()
            raise
        else:
            jsonl_log.flush()
        finally:
            if s3.retries():
                say(f"{s3.retries()} requests to the storage were sent again")


def _condense(config: RunConfig, out: str) -> None:
    # Asked again under the lease: another driver may have finished the set in between.
    if not _condensed(config, out):
        condense(config, out, _class_shards(config, out, condensing=True))


def _class_shards(config: RunConfig, out: str, *, condensing: bool = False) -> str:
    """The folder of the class shards that the run began with, made anew where they are gone.

    Raises:
        UserError: they are gone and the source is no longer what it was.
    """
    record = read_run(out)
    if record is None:
        return prepare(config, out, condensing=condensing)
    folder = record["resolved"]["class_shards"]
    if storage.exists(storage.join(folder, MANIFEST)):
        return folder
    made = prepare(config, out, condensing=condensing)
    if made.rsplit("/", 1)[-1] != folder.rsplit("/", 1)[-1]:
        raise UserError(
            f"{out}: the source changed since this run began, and its class shards are gone; choose another --out"
        )
    return made


def _evaluated(config: RunConfig, out: str) -> bool:
    origins = {"condensed_set": read_manifest(storage.join(out, "condensed"))[SEAL]}
    if config.evaluate.labels == "soft":
        manifest = read_experts(out, config.pretrain.architecture)
        if manifest is not None:  # one that was deleted since makes no finished row unfinished
            origins["teacher"] = teacher_checksum(manifest)
    return is_evaluated(config, out, origins)


def _condensed(config: RunConfig, out: str) -> bool:
    """Whether the folder holds this run's finished set. Raises UserError where it holds another run."""
    check(activate(config))
    record = read_run(out)
    if record is None:
        return False
    check_same_run(out, record, config)
    return GroupStore(out, "").committed()
