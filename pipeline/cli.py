"""The command line: ``python -m pipeline COMMAND``."""

import argparse
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import FrameType

from m3d.config import SETS, ConfigError
from pipeline import presets, s3, storage
from pipeline.config import RunConfig, from_dict, to_dict, with_settings
from pipeline.errors import FailedError, Interrupted, UserError, nearest

EPILOG = """\
examples:
  python -m pipeline run --preset digits_ipc1 --out runs/demo
  python -m pipeline run --preset cifar10_ipc1 --data DIR --set data.source=parquet --out runs/cifar
  python -m pipeline evaluate runs/demo --architectures convnet3,mlp --seeds 5
  python -m pipeline compare runs/demo other.pt:idc:factor=2
  python -m pipeline tune --preset cifar10_ipc1 --data DIR --trials 30 --time-budget 2h --out runs/search
  python -m pipeline show-config --preset cifar10_ipc10

Repeating a command goes on where it ended.
"""


def console() -> None:
    """Entry point of the ``m3d`` script."""
    sys.exit(main())


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns its exit code: 0, 1 for a failure, 2 for a mistake in the call, 130 when interrupted."""
    parser = _parser()
    given = parser.parse_args(arguments)
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # Ray's coming default; silences its warning
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _as_interrupt)
    try:
        s3.use(s3.Storage())  # until a configuration is read
        return given.action(given) or 0
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Interrupted as stopped:
        told = str(stopped) or "checkpoints are saved; the same command goes on from them"
        return _fail(f"interrupted: {told}", 130)
    except KeyboardInterrupt:
        return _fail("interrupted; the same command goes on where it ended", 130)
    except (UserError, ConfigError) as error:
        if given.debug:
            raise
        return _fail(f"error: {error}", 2)
    except FailedError as error:
        if given.debug:
            raise
        return _fail(f"failed: {error}", 1)
    except Exception as error:
        if given.debug:
            raise
        first = (str(error).strip().splitlines() or [""])[0]
        return _fail(f"failed: {type(error).__name__}: {first} (an error of this program; --debug shows where)", 1)


def _as_interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _fail(text: str, code: int) -> int:
    print(" ".join(text.splitlines()), file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline",
        description="Condense a labelled image data set into a few synthetic images per class (M3D), on Ray.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    with_out = (
        ("run", "prepare, condense, evaluate and report; does what is missing", _run),
        ("prepare", "decode the source once, to one uint8 Arrow file per class", _prepare),
        ("pretrain", "train networks on the whole training set and store their snapshots", _pretrain),
        ("condense", "condense all classes and commit the set", _condense),
    )
    for name, text, action in with_out:
        command = _command(commands, name, text, action)
        _add_common(command)
        command.add_argument("--out", required=True, metavar="PATH", help="folder of the run")
    for name, text, action in (
        ("evaluate", "train fresh networks on a run's condensed set and on its baselines", _evaluate),
        ("report", "write a run's grid.png and report.html", _report),
    ):
        command = _command(commands, name, text, action)
        command.add_argument("run", metavar="RUN", help="folder of the run")
        if name == "evaluate":
            _add_evaluate(command)
            command.add_argument(
                "--sets", metavar="A,B", help=f"what to evaluate of {', '.join(SETS)} (default: all but whole)"
            )
            command.add_argument(
                "--data", metavar="PATH", help="folder of the data, where RUN is a condensed set alone"
            )
        else:
            _add_set(command)
    command = _command(
        commands, "compare", "train networks on several condensed sets, with the same protocol and seeds", _compare
    )
    command.add_argument(
        "sets", nargs="+", metavar="SET", help="folder of a run or a condensed set, or FILE.pt:LAYOUT[:factor=N]"
    )
    _add_evaluate(command)
    command.add_argument("--preset", metavar="NAME", help="names the data where no SET is a run")
    command.add_argument("--config", metavar="FILE", help="the same by a JSON file")
    command.add_argument("--data", metavar="PATH", help="folder of the data, with --preset")
    command.add_argument("--out", metavar="PATH", help="folder for comparison.json; a repeated command goes on there")
    command = _command(
        commands, "verify", "check a run, a condensed set or stored networks; exit code 1 if anything is wrong", _verify
    )
    command.add_argument("path", metavar="PATH", help="folder of a run, of a condensed set, or that pretrain made")
    _add_set(command)
    command = _command(
        commands, "plan", "predict time, memory, disk and GPU-hours of a run by a short calibration", _plan
    )
    _add_common(command)
    command.add_argument("--gpus", type=int, metavar="N", help="also say what condensing takes on N GPUs like this one")
    command = _command(
        commands, "tune", "search for the bandwidth, learning rate and other settings that suit the data", _tune
    )
    _add_common(command)
    command.add_argument("--out", required=True, metavar="PATH", help="folder of the search")
    command.add_argument("--trials", required=True, type=int, metavar="N", help="settings that are tried, at most")
    command.add_argument("--time-budget", metavar="TIME", help="end the search after this time, such as 2h or 90m")
    command.add_argument("--space", metavar="FILE", help="JSON or YAML of what to search; see docs/tuning.md")
    command.add_argument("--resume", action="store_true", help="go on with the search in PATH, if there is one")
    command = _command(commands, "show-config", "print the whole configuration as JSON", _show_config)
    _add_common(command)
    return parser


def _command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    text: str,
    action: Callable[[argparse.Namespace], int | None],
) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    command.add_argument("--debug", action="store_true", help="show the traceback of an error")
    command.set_defaults(action=action)
    return command


def _add_evaluate(command: argparse.ArgumentParser) -> None:
    for name, metavar, text in (
        ("architectures", "A,B", "networks to train, such as convnet3,resnet18"),
        ("seeds", "N", "networks per set and architecture"),
        ("protocol", "NAME", "idc, dm, imagenet or imagenet100"),
    ):
        command.add_argument(f"--{name}", metavar=metavar, help=f"{text}; short for --set evaluate.{name}=...")
    _add_set(command)


def _add_common(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--preset",
        metavar="NAME",
        help=f"start from a whole configuration: {', '.join(presets.PRESETS)} (default {presets.DEFAULT})",
    )
    command.add_argument("--config", metavar="FILE", help="start from a JSON file, such as a run's config.json")
    command.add_argument("--data", metavar="PATH", help="folder of the data; short for --set data.path=PATH")
    _add_set(command)


def _add_set(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--set",
        dest="settings",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change one setting (repeatable); show-config lists them",
    )


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


def _run(given: argparse.Namespace) -> None:
    from pipeline.run import run_all

    run_all(configuration(given), given.out)


def _prepare(given: argparse.Namespace) -> None:
    from pipeline.run import run_prepare

    run_prepare(configuration(given), given.out)


def _pretrain(given: argparse.Namespace) -> None:
    from pipeline.run import run_pretrain

    run_pretrain(configuration(given), given.out)


def _condense(given: argparse.Namespace) -> None:
    from pipeline.run import run_condense

    run_condense(configuration(given), given.out)


def _evaluate(given: argparse.Namespace) -> None:
    from pipeline.run import run_evaluate

    sets = None
    if given.sets is not None:
        sets = [name.strip() for name in given.sets.split(",") if name.strip()]
        wrong = next((name for name in sets if name not in SETS), None)
        if wrong or not sets:
            raise UserError(f"--sets {given.sets}: allowed: {', '.join(SETS)}{nearest(wrong or '', SETS)}")
    run_evaluate(given.run, _evaluate_settings(given, "evaluate"), sets, given.data)


def _compare(given: argparse.Namespace) -> None:
    from pipeline.run import run_compare

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


def _report(given: argparse.Namespace) -> None:
    from pipeline.run import run_report

    run_report(given.run, _storage_settings("report", given.settings))


def _verify(given: argparse.Namespace) -> int:
    from pipeline.verify import verify

    checked, wrong = verify(storage.absolute(given.path), _storage_settings("verify", given.settings))
    for sentence in wrong:
        print(sentence)
    count = "1 thing is wrong" if len(wrong) == 1 else f"{len(wrong)} things are wrong"
    print(f"{given.path}: {count if wrong else checked}")
    return 1 if wrong else 0


def _plan(given: argparse.Namespace) -> None:
    from pipeline.estimate import described, estimate
    from pipeline.progress import console
    from pipeline.run import check

    config = configuration(given)
    check(config)
    if given.gpus is not None and given.gpus < 1:
        raise UserError(f"--gpus {given.gpus}: allowed: a number from 1")
    console().print(described(estimate(config), given.gpus))


def _tune(given: argparse.Namespace) -> None:
    from pipeline.search_settings import seconds_of
    from pipeline.tune_stage import Wanted, run_tune

    budget = seconds_of(given.time_budget) if given.time_budget is not None else None
    wanted = Wanted(trials=given.trials, time_budget_s=budget, space=given.space, resume=given.resume)
    try:
        run_tune(configuration(given), given.out, wanted)
    except KeyboardInterrupt:
        raise Interrupted("trials are kept; the same command with --resume goes on") from None


def _show_config(given: argparse.Namespace) -> None:
    print(json.dumps(to_dict(configuration(given)), indent=2))
