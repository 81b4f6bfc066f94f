"""How a set was made, for those who get it: the command that makes it again, without a path of this machine."""

import json
import shlex
from collections.abc import Mapping
from typing import Any

from pipeline.config import presets
from pipeline.config.parsing import differing_keys, from_dict, to_dict
from pipeline.exports.about import shared_settings

PROGRAM = "python -m pipeline"
MAKING = ("kernel", "augment", "condense")
"""Sections of a configuration that say how a set was made, and nothing about its data."""


def command_of(config: Mapping[str, Any]) -> str:
    """Returns the command that repeats a run: the nearest preset, and the settings that differ from it.

    Args:
        config: settings of the run; those that are missing have their defaults.
    """
    settings = shared_settings(to_dict(from_dict(dict(config), origin="the settings of the set")))
    by_preset = {name: shared_settings(to_dict(presets.preset(name))) for name in presets.PRESETS}
    differing = {name: differing_keys(base, settings) for name, base in by_preset.items()}
    nearest = min(differing, key=lambda name: len(differing[name]))
    words = [PROGRAM, "run", "--preset", nearest]
    if settings["data"]["source"] != "digits":
        words += ["--data", "DATA"]
    for key in differing[nearest]:
        section, _, name = key.rpartition(".")
        value = (settings[section] if section else settings)[name]
        words += ["--set", shlex.quote(f"{key}={_text(value)}")]
    return " ".join([*words, "--out", "runs/again"])


def settings_of_data(config: Mapping[str, Any], images_per_class: int, factor: int) -> dict[str, Any]:
    """Returns the settings of a set's data for another set of the same data, without how the first one was made.

    Args:
        config: settings of the first set.
        images_per_class: stored images of the other set, which its baselines get as well.
        factor: tiles along a side of its stored images.
    """
    kept = {key: value for key, value in config.items() if key not in MAKING}
    return {**kept, "condense": {"images_per_class": images_per_class, "factor": factor}}


def says_making(config: Mapping[str, Any] | None) -> bool:
    """Whether settings say how a set was made, unlike those of ``settings_of_data``."""
    return config is not None and MAKING[0] in config


def _text(value: object) -> str:
    """A value as ``--set`` reads it: text that is no JSON stays as it is."""
    if isinstance(value, str):
        try:
            json.loads(value)
        except ValueError:
            return value
    return json.dumps(value)
