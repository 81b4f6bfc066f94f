"""Checks a command before it is sent to a cluster, as far as this machine can know."""

import argparse
from pathlib import Path

from m3d.encoders import check_name
from pipeline.cli import commands
from pipeline.config import presets
from pipeline.config.parsing import with_settings
from pipeline.config.validation import check as check_settings


def check(options: argparse.Namespace) -> None:
    """Checks the options of a command for jobs and the settings in them, without reading what may be elsewhere.

    Raises:
        UserError, ConfigError: the command would be refused.
    """
    if options.action is commands.evaluate:
        _check_evaluate(options)
        return
    if options.action is commands.prepare:
        commands.require_out(options)
    elif options.action is commands.plan:
        commands.require_gpus(options)
    elif options.action is commands.tune and options.time_budget is not None:
        commands.seconds_of(options.time_budget)
    if options.config is not None and not Path(options.config).is_file():
        return  # a file of the cluster
    check_settings(commands.configuration(argparse.Namespace(**{**vars(options), "out": None})))


def _check_evaluate(options: argparse.Namespace) -> None:
    """Checks what ``evaluate`` changes of a run, which is on the cluster."""
    if options.sets is not None:
        commands.sets_of(options.sets)
    settings = commands.evaluate_settings(options, "evaluate")
    for name in with_settings(presets.preset(presets.DEFAULT), settings).evaluate.architectures:
        check_name(name, "evaluate.architectures")
