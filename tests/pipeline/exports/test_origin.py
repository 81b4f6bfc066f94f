"""The command in a card: it repeats the run, and names no place."""

import shlex

import pytest

from pipeline.cli import commands
from pipeline.cli.parser import build_parser
from pipeline.config import presets
from pipeline.config.parsing import to_dict, with_settings
from pipeline.exports.about import shared_settings
from pipeline.exports.origin import command_of

CHANGES = (
    *("seed=3", "data.path=/home/ann/photos", "data.cache=/home/ann/cache", "data.classes=cat,dog"),
    *(
        "condense.iterations=77",
        "kernel.scale_factor=1.5",
        "resources.address=10.0.0.1:6379",
        "storage.endpoint=http://inside:9000",
    ),
)


@pytest.mark.parametrize("name", presets.PRESETS)
def test_a_preset_is_named_alone(name: str) -> None:
    words = shlex.split(command_of(to_dict(presets.preset(name))))
    assert words[3:6] == ["run", "--preset", name]
    assert "--set" not in words


def test_changed_settings_are_repeated_and_places_are_not() -> None:
    config = with_settings(presets.preset("cifar10_ipc10"), CHANGES)
    command = command_of(to_dict(config))
    assert all(word not in command for word in ("ann", "10.0.0.1", "inside"))
    options = build_parser().parse_args(shlex.split(command)[3:])
    repeated = commands.configuration(options)
    assert shared_settings(to_dict(repeated)) == shared_settings(to_dict(config))


def test_settings_that_an_older_version_did_not_have_are_the_defaults() -> None:
    config = to_dict(presets.preset("digits_ipc1"))
    del config["kernel"], config["condense"]["start"]
    assert command_of(config) == "python -m pipeline run --preset digits_ipc1 --out runs/again"
