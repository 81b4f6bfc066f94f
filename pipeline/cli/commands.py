"""What each command does, from its parsed options. Stages are imported by the commands that run them."""

import argparse
import json
import re
from collections.abc import Sequence
from dataclasses import replace

from pipeline.config import presets
from pipeline.config.evaluate import SETS
from pipeline.config.run_config import RunConfig
from pipeline.errors import Interrupted, UserError, nearest, one_line, printable

PLACES_OF_DATA = ("data.cache", "data.disk_cache", "data.synsets")
"""Settings that ``evaluate``, ``compare`` and ``verify`` accept besides others: a folder is not trusted with them."""


def configuration(options: argparse.Namespace) -> RunConfig:
    """The configuration of a command line: preset or file, then --data, then every --set. Its storage is active."""
    return _configuration(options, options.settings)


def _configuration(options: argparse.Namespace, settings: Sequence[str]) -> RunConfig:
    from pipeline.config.parsing import with_settings
    from pipeline.storage.settings import activate, load_config, require_repeated, with_absolute_paths

    _activate_storage(settings)
    if options.preset and options.config:
        raise UserError("--preset and --config: both given; a configuration starts from one of them")
    base = load_config(options.config) if options.config else presets.preset(options.preset or presets.DEFAULT)
    if options.config:
        require_repeated(f"--config {options.config}", base, settings)
    path = [f"data.path={json.dumps(options.data)}"] if options.data is not None else []
    config = with_absolute_paths(with_settings(base, [*path, *settings]))
    config = _evaluated_on_its_encoder(config, base, settings, getattr(options, "out", None))
    if not options.preset and not options.config and config.data.source != "digits":
        raise UserError(
            f"data.source: given {config.data.source!r} without --preset or --config; start from a preset with a suitable "
            f"schedule and image size, such as --preset cifar10_ipc1, then --set data.image_size=N "
            f"(presets: {', '.join(presets.PRESETS)})"
        )
    if config.data.source == "digits" and config.data.path is not None:
        raise UserError(
            "--data: given, but data.source is digits, which has no path; add --set data.source=image_folder or parquet"
        )
    return activate(config)


def _evaluated_on_its_encoder(
    config: RunConfig, base: RunConfig, settings: Sequence[str], out: str | None
) -> RunConfig:
    """The configuration with the network of ``--set encoder.name`` evaluated as well, if the preset's was and no other is named.

    A run that an older version began keeps the networks that it has.
    """
    named = {setting.partition("=")[0] for setting in settings}
    follows = (
        base.evaluate.architectures == (base.encoder.name,)
        and config.evaluate.architectures == base.evaluate.architectures
    )
    if config.encoder.name == base.encoder.name or not follows or "evaluate.architectures" in named:
        return config
    if out is not None and _begun_with(out, base.evaluate.architectures):
        return config
    return replace(config, evaluate=replace(config.evaluate, architectures=(config.encoder.name,)))


def _begun_with(out: str, architectures: tuple[str, ...]) -> bool:
    """Whether a folder contains a run or a search that evaluates these networks."""
    from pipeline import storage
    from pipeline.storage.settings import load_config

    files = [storage.join(storage.absolute(out), name) for name in ("config.json", "search.json")]
    found = [name for name in files if storage.exists(name)]
    return bool(found) and load_config(found[0]).evaluate.architectures == architectures


def _activate_storage(settings: Sequence[str]) -> list[str]:
    """Activates the storage.* among the settings, since files that the command names may be in a bucket."""
    from pipeline.storage.settings import activate

    chosen = [setting for setting in settings if setting.startswith("storage.")]
    activate(RunConfig(), chosen)
    return chosen


def _accepted(command: str, settings: Sequence[str], sections: Sequence[str], keys: Sequence[str] = ()) -> list[str]:
    """The settings of a command that takes all others from the run; those of the storage are active from here on.

    Raises:
        UserError: a setting is of none of the sections and none of the keys.
    """
    *others, last = (f"{section}*" for section in sections)
    allowed = f"{', '.join(others)} and {last} only" if others else f"{last} only"
    allowed += f" (and {', '.join(keys)})" if keys else ""
    for setting in settings:
        if not setting.startswith(tuple(sections)) and setting.partition("=")[0] not in keys:
            raise UserError(f"--set {setting}: {command} accepts {allowed}; other settings come from the run")
    _activate_storage(settings)
    return list(settings)


def run(options: argparse.Namespace) -> None:
    """``run``: all missing stages, from prepare to report."""
    from pipeline.workflow.run import run_all

    run_all(configuration(options), options.out)


def prepare(options: argparse.Namespace) -> None:
    """``prepare``: the class shards; with ``--look``, what would be read."""
    from pipeline.workflow.run import run_look, run_prepare

    if options.look:
        run_look(configuration(options))
        return
    require_out(options)
    run_prepare(configuration(options), options.out)


def require_out(options: argparse.Namespace) -> None:
    """Raises UserError if --out of ``prepare`` is missing although something would be stored."""
    if options.out is None and not options.look:
        raise UserError(
            "--out: not given; prepare stores the class shards there (--look needs none and stores nothing)"
        )


def pretrain(options: argparse.Namespace) -> None:
    """``pretrain``: networks on the full training set."""
    from pipeline.workflow.run import run_pretrain

    run_pretrain(configuration(options), options.out)


def condense(options: argparse.Namespace) -> None:
    """``condense``: the condensed set."""
    from pipeline.workflow.run import run_condense

    run_condense(configuration(options), options.out)


def evaluate(options: argparse.Namespace) -> None:
    """``evaluate``: rows of evaluation.json."""
    from pipeline.workflow.run import run_evaluate

    sets = None if options.sets is None else sets_of(options.sets)
    run_evaluate(options.run, evaluate_settings(options, "evaluate"), sets, options.data)


def sets_of(text: str) -> list[str]:
    """Names of training sets in a text such as ``condensed,random``. Raises UserError for an unknown one."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = next((name for name in names if name not in SETS), None)
    if unknown or not names:
        raise UserError(f"--sets {text}: allowed: {', '.join(SETS)}{nearest(unknown or '', SETS)}")
    return names


def compare(options: argparse.Namespace) -> None:
    """``compare``: one table of several sets."""
    from pipeline.workflow.run import run_compare

    from_options = bool(options.preset or options.config)
    settings = evaluate_settings(options, "compare", data=from_options)
    config = None
    if from_options:
        config = _configuration(options, [setting for setting in options.settings if setting.startswith("data.")])
    elif options.data is not None:
        raise UserError("--data: does not say what the data are; add --preset, such as --preset cifar10_ipc1")
    if from_options:  # those of data are in the configuration
        settings = [setting for setting in settings if not setting.startswith("data.")]
    run_compare(options.sets, config, settings, options.out)


def evaluate_settings(options: argparse.Namespace, command: str, *, data: bool = False) -> list[str]:
    """Settings of --architectures, --seeds and --protocol, then those of --set.

    Raises:
        UserError: a setting of --set is of a section that the command takes from the run.
    """
    sections = ("data.", "evaluate.", "resources.", "storage.") if data else ("evaluate.", "resources.", "storage.")
    others = () if data else PLACES_OF_DATA
    if command == "evaluate":
        others = (*others, "report.loggers")
    settings = _accepted(command, options.settings, sections, others)
    named = {name: getattr(options, name) for name in ("architectures", "seeds", "protocol")}
    return [f"evaluate.{name}={text}" for name, text in named.items() if text is not None] + settings


def report(options: argparse.Namespace) -> None:
    """``report``: grid and page of a run."""
    from pipeline.workflow.run import run_report

    run_report(options.run, _accepted("report", options.settings, ("report.", "storage."), PLACES_OF_DATA))


def verify(options: argparse.Namespace) -> int:
    """``verify``: prints what is wrong. Returns 1 if anything is."""
    from pipeline.storage.paths import absolute
    from pipeline.workflow.verify import verify

    checked, wrong = verify(
        absolute(options.path), _accepted("verify", options.settings, ("storage.",), PLACES_OF_DATA)
    )
    for sentence in wrong:
        print(one_line(sentence))
    count = "1 thing is wrong" if len(wrong) == 1 else f"{len(wrong)} things are wrong"
    print(printable(f"{options.path}: {count if wrong else checked}"))
    return 1 if wrong else 0


def export(options: argparse.Namespace) -> None:
    """``export``: a condensed set in another format."""
    from pipeline.exports.export_set import ExportRequest, run_export

    _accepted("export", options.settings, ("storage.",))
    request = ExportRequest(format=options.to, views=options.views, name=options.name, licence=options.licence)
    run_export(options.set, request, options.out)


def import_(options: argparse.Namespace) -> None:
    """``import``: a file of another format as a condensed set."""
    from pipeline.exports.import_set import ImportRequest, run_import

    _accepted("import", options.settings, ("storage.",))
    known = {name: getattr(options, name) for name in ("like", "factor", "mean", "std")}
    run_import(options.file, ImportRequest(format=options.format, **known), options.out)


def plan(options: argparse.Namespace) -> None:
    """``plan``: prints what a run would take."""
    from pipeline.config.validation import check
    from pipeline.observability.progress import console
    from pipeline.workflow.plan import described, estimate

    config = configuration(options)
    check(config)
    require_gpus(options)
    console().print(described(estimate(config), options.gpus))


def require_gpus(options: argparse.Namespace) -> None:
    """Raises UserError if --gpus of ``plan`` is not a possible number."""
    if options.gpus is not None and not 1 <= options.gpus <= 100_000:
        raise UserError(f"--gpus {options.gpus}: allowed: a number from 1 to 100000")


def tune(options: argparse.Namespace) -> None:
    """``tune``: a search."""
    from pipeline.tune.stage import SearchRequest, run_tune

    budget = seconds_of(options.time_budget) if options.time_budget is not None else None
    request = SearchRequest(trials=options.trials, time_budget_s=budget, space=options.space, resume=options.resume)
    try:
        run_tune(configuration(options), options.out, request)
    except KeyboardInterrupt:
        raise Interrupted("finished trials are kept; repeat the command with --resume to resume the search") from None


def show_config(options: argparse.Namespace) -> None:
    """``show-config``: prints the configuration as JSON."""
    from pipeline.config.parsing import to_dict

    print(json.dumps(to_dict(configuration(options)), indent=2))


def seconds_of(text: str) -> float:
    """Seconds of a duration such as ``2h``, ``1h30m``, ``90s`` or ``600``. Raises UserError."""
    units = {"d": 86400, "h": 3600, "m": 60, "s": 1}
    if re.fullmatch(r"\d+(\.\d+)?", text) and 0 < float(text) < 1e9:
        return float(text)
    parts = re.findall(r"(\d+(?:\.\d+)?)([dhms])", text)
    seconds = sum(float(number) * units[unit] for number, unit in parts)
    if "".join(number + unit for number, unit in parts) != text or not 0 < seconds < 1e9:
        raise UserError(f"--time-budget {text}: is not a duration; give 2h, 1h30m, 90s or a number of seconds")
    return seconds
