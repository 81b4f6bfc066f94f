"""What each command does, from its parsed arguments."""

import argparse
import json
import re
from collections.abc import Sequence
from dataclasses import replace

from pipeline import storage
from pipeline.config import presets
from pipeline.config.evaluate import SETS
from pipeline.config.parsing import from_dict, to_dict, with_settings
from pipeline.config.run_config import RunConfig
from pipeline.errors import Interrupted, UserError, nearest
from pipeline.storage import s3


def configuration(given: argparse.Namespace) -> RunConfig:
    """The configuration that a command line asks for: preset or file, then --data, then every --set."""
    use_storage(given.settings)
    if given.preset and given.config:
        raise UserError("--preset and --config: both given; a configuration starts from one of them")
    base = _from_file(given.config) if given.config else presets.preset(given.preset or presets.DEFAULT)
    settings = ([f"data.path={json.dumps(given.data)}"] if given.data is not None else []) + given.settings
    config = _with_absolute_paths(with_settings(base, settings))
    if not given.preset and not given.config and config.data.source != "digits":
        raise UserError(
            f"data.source: given {config.data.source!r} without --preset or --config; choose one for its schedule and image "
            f"size, such as --preset cifar10_ipc1, then --set data.image_size=N (presets: {', '.join(presets.PRESETS)})"
        )
    if config.data.source == "digits" and config.data.path is not None:
        raise UserError(
            "--data: given, but data.source is digits, which has no path; add --set data.source=image_folder or parquet"
        )
    return config


def use_storage(settings: Sequence[str]) -> None:
    """Makes the --set storage.* of a command line hold: what it names may have to be read from a bucket."""
    chosen = [setting for setting in settings if setting.startswith("storage.")]
    s3.use(with_settings(RunConfig(), chosen).storage)


def _storage_settings(command: str, settings: Sequence[str]) -> Sequence[str]:
    for setting in settings:
        if not setting.startswith("storage."):
            raise UserError(f"--set {setting}: {command} only takes storage.*; the rest is the run's own")
    use_storage(settings)
    return settings


def _with_absolute_paths(config: RunConfig) -> RunConfig:
    # A run is gone on with from anywhere, and its actors have other working folders.
    data = config.data
    keys = ("path", "cache", "synsets", "disk_cache")
    made = {name: storage.absolute(path) for name in keys if (path := getattr(data, name)) is not None}
    return replace(config, data=replace(data, **made))


def _from_file(path: str) -> RunConfig:
    try:
        return from_dict(storage.read_json(storage.absolute(path)), origin=path)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise UserError(f"--config {path}: is not a file; give a JSON file, such as a run's config.json") from None


def run(given: argparse.Namespace) -> None:
    """``run``: everything that is missing, from preparing to the report."""
    from pipeline.workflow.run import run_all

    run_all(configuration(given), given.out)


def prepare(given: argparse.Namespace) -> None:
    """``prepare``: the class shards."""
    from pipeline.workflow.run import run_prepare

    run_prepare(configuration(given), given.out)


def pretrain(given: argparse.Namespace) -> None:
    """``pretrain``: networks on the whole set."""
    from pipeline.workflow.run import run_pretrain

    run_pretrain(configuration(given), given.out)


def condense(given: argparse.Namespace) -> None:
    """``condense``: the condensed set."""
    from pipeline.workflow.run import run_condense

    run_condense(configuration(given), given.out)


def evaluate(given: argparse.Namespace) -> None:
    """``evaluate``: rows of evaluation.json."""
    from pipeline.workflow.run import run_evaluate

    sets = None
    if given.sets is not None:
        sets = [name.strip() for name in given.sets.split(",") if name.strip()]
        wrong = next((name for name in sets if name not in SETS), None)
        if wrong or not sets:
            raise UserError(f"--sets {given.sets}: allowed: {', '.join(SETS)}{nearest(wrong or '', SETS)}")
    run_evaluate(given.run, _evaluate_settings(given, "evaluate"), sets, given.data)


def compare(given: argparse.Namespace) -> None:
    """``compare``: one table of several sets."""
    from pipeline.workflow.run import run_compare

    settings = _evaluate_settings(given, "compare", data=bool(given.preset or given.config))
    if given.preset or given.config:
        given.settings = [setting for setting in given.settings if setting.startswith("data.")]
        config = configuration(given)
    elif given.data is not None:
        raise UserError("--data: names no data by itself; add --preset, such as --preset cifar10_ipc1")
    else:
        config = None
    run_compare(given.sets, config, [one for one in settings if not one.startswith("data.")], given.out)


def _evaluate_settings(given: argparse.Namespace, command: str, *, data: bool = False) -> list[str]:
    """Settings of --architectures, --seeds and --protocol, then of --set, which takes evaluate.* and resources.* here."""
    for setting in given.settings:
        if not setting.startswith(("evaluate.", "resources.", "storage.", *(["data."] if data else []))):
            raise UserError(
                f"--set {setting}: {command} only takes evaluate.*, resources.* and storage.*; the rest is the run's own"
            )
    use_storage(given.settings)
    named = {name: getattr(given, name) for name in ("architectures", "seeds", "protocol")}
    return [f"evaluate.{name}={text}" for name, text in named.items() if text is not None] + given.settings


def report(given: argparse.Namespace) -> None:
    """``report``: grid and page of a run."""
    from pipeline.workflow.run import run_report

    run_report(given.run, _storage_settings("report", given.settings))


def verify(given: argparse.Namespace) -> int:
    """``verify``: prints what is wrong; 1 where anything is."""
    from pipeline.workflow.verify import verify

    checked, wrong = verify(storage.absolute(given.path), _storage_settings("verify", given.settings))
    for sentence in wrong:
        print(sentence)
    count = "1 thing is wrong" if len(wrong) == 1 else f"{len(wrong)} things are wrong"
    print(f"{given.path}: {count if wrong else checked}")
    return 1 if wrong else 0


def plan(given: argparse.Namespace) -> None:
    """``plan``: prints what a run would take."""
    from pipeline.config.validation import check
    from pipeline.observability.progress import console
    from pipeline.workflow.plan import described, estimate

    config = configuration(given)
    s3.use(config.storage)
    check(config)
    if given.gpus is not None and given.gpus < 1:
        raise UserError(f"--gpus {given.gpus}: allowed: a number from 1")
    console().print(described(estimate(config), given.gpus))


def tune(given: argparse.Namespace) -> None:
    """``tune``: a search."""
    from pipeline.tune.stage import SearchRequest, run_tune

    budget = seconds_of(given.time_budget) if given.time_budget is not None else None
    wanted = SearchRequest(trials=given.trials, time_budget_s=budget, space=given.space, resume=given.resume)
    try:
        run_tune(configuration(given), given.out, wanted)
    except KeyboardInterrupt:
        raise Interrupted("trials are kept; the same command with --resume goes on") from None


def show_config(given: argparse.Namespace) -> None:
    """``show-config``: prints the configuration as JSON."""
    print(json.dumps(to_dict(configuration(given)), indent=2))


def seconds_of(text: str) -> float:
    """Seconds of a duration such as ``2h``, ``1h30m``, ``90s`` or ``600``. Raises UserError."""
    units = {"d": 86400, "h": 3600, "m": 60, "s": 1}
    if re.fullmatch(r"\d+(\.\d+)?", text) and float(text) > 0:
        return float(text)
    parts = re.findall(r"(\d+(?:\.\d+)?)([dhms])", text)
    seconds = sum(float(number) * units[unit] for number, unit in parts)
    if "".join(number + unit for number, unit in parts) != text or not seconds:
        raise UserError(f"--time-budget {text}: is no duration; give 2h, 1h30m, 90s or seconds")
    return seconds
