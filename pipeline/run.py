"""The stages in order. Each does only what is missing, so repeating a command goes on where it ended."""

from dataclasses import replace

from m3d.config import ConfigError
from m3d.encoders import check_name
from m3d.formation import tile_sides
from m3d.kernels import kernel_named
from pipeline import storage
from pipeline.condense import condense
from pipeline.config import Evaluate, RunConfig, from_dict
from pipeline.documents import SEAL
from pipeline.errors import UserError
from pipeline.evaluate import evaluate
from pipeline.lease import Lease
from pipeline.ledger import Ledger, read_run
from pipeline.prepare import prepare
from pipeline.progress import say
from pipeline.record import check_same_run
from pipeline.report import is_reported, report
from pipeline.results import is_evaluated
from pipeline.shard_reader import read_manifest
from pipeline.shard_schema import MANIFEST


def run_all(config: RunConfig, out: str) -> None:
    """prepare, condense, evaluate and report; a finished run says so and does nothing."""
    out = storage.absolute(out)
    if _condensed(config, out) and _evaluated(config, out) and is_reported(out):
        say(f"{out}: this run is finished; nothing to do")
        return
    with Lease(out):
        _condense(config, out)
        if not _evaluated(config, out):
            evaluate(config, out, _class_shards(config, out))
        report(out)


def run_prepare(config: RunConfig, out: str) -> None:
    """The class shards alone."""
    check(config)
    out = storage.absolute(out)
    with Lease(out):
        prepare(config, out)


def run_condense(config: RunConfig, out: str) -> None:
    """prepare where it is missing, then condense."""
    out = storage.absolute(out)
    if _condensed(config, out):
        say(f"condensed set: finished before, in {storage.join(out, 'condensed')}")
        return
    with Lease(out):
        _condense(config, out)


def run_evaluate(out: str, changes: Evaluate | None = None, config: RunConfig | None = None) -> None:
    """evaluate the condensed set of a run's folder, with its own settings unless others are given."""
    out = storage.absolute(out)
    stored = stored_config(out)
    if not Ledger(out, "").committed():
        raise UserError(
            f"{out}: its condensed set is not finished; finish it with `python -m pipeline condense` and the run's settings"
        )
    used = replace(
        stored, evaluate=changes or stored.evaluate, resources=config.resources if config else stored.resources
    )
    check(used)
    with Lease(out):
        evaluate(used, out, _class_shards(used, out))


def run_report(out: str) -> None:
    """grid.png and report.html of a run's folder."""
    out = storage.absolute(out)
    stored_config(out)
    with Lease(out):
        report(out)


def stored_config(out: str) -> RunConfig:
    """The configuration that a run's folder was made with. Raises UserError where it is no run's folder."""
    record = read_run(out)
    if record is None:
        what = "holds no run (no config.json)" if storage.exists(out) else "does not exist"
        raise UserError(f"{out}: {what}; give the folder that was --out of `run` or `condense`")
    return from_dict(record, origin=storage.join(out, "config.json"))


def check(config: RunConfig) -> None:
    """Everything that can be wrong in the settings, before anything is read or started.

    Raises:
        UserError: with the key to blame and what is allowed.
    """
    try:
        kernel_named(config.kernel.name)
        check_name(config.encoder.name, "encoder.name")
        for name in config.evaluate.architectures:
            check_name(name, "evaluate.architectures")
        tile_sides(config.data.image_size, config.condense.factor)
        if config.kernel.estimator == "unbiased" and min(config.condense.views, config.condense.batch_real) < 2:
            raise ConfigError(
                "kernel.estimator: unbiased needs two views of a class; raise condense.images_per_class or condense.factor"
            )
    except ConfigError as error:
        raise UserError(str(error)) from None
    if config.evaluate.on == "validation" and not config.data.validation_fraction:
        raise UserError("evaluate.on: given 'validation', but data.validation_fraction is 0; set it, such as 0.1")


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
    return is_evaluated(config, out, read_manifest(storage.join(out, "condensed"))[SEAL])


def _condensed(config: RunConfig, out: str) -> bool:
    """Whether the folder holds this run's finished set. Raises UserError where it holds another run."""
    check(config)
    record = read_run(out)
    if record is None:
        return False
    check_same_run(out, record, config)
    return Ledger(out, "").committed()
