"""How a set was made, for those who get it: the command that makes it again, without a path of this machine."""

import json
import shlex
from collections.abc import Mapping
from typing import Any

from pipeline.config import presets
from pipeline.config.parsing import differing_keys, from_dict, to_dict
from pipeline.exports.about import shared_settings

PROGRAM = "python -m pipeline"


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


def _text(value: object) -> str:
    """A value as ``--set`` reads it: text that is no JSON stays as it is."""
    if isinstance(value, str):
        try:
            json.loads(value)
        except ValueError:
            return value
    return json.dumps(value)
