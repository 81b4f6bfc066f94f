"""Settings and commands on the page."""

import pytest

from pipeline.config.run_config import Data
from pipeline.formats.run_folder import RunFolder
from pipeline.workflow.report.settings import commands, name_of, sections, without_folders
from tests.pipeline.support.runs import small_config


def test_changed_settings_come_first_and_no_path_is_shown_in_full() -> None:
    config = small_config("data.cache=/home/somebody/cache", "storage.endpoint=https://store.example/x")
    changed = {key: value for section in sections(config) for key, value in section.changed}
    defaults = {key for section in sections(config) for key, _ in section.defaults}
    assert changed["condense.iterations"] == "40"
    assert changed["data.classes"] == "0, 1, 2, 3"
    assert changed["data.cache"] == "…/cache"
    assert changed["storage.endpoint"] == "…/x"
    assert "seed" in defaults
    assert not changed.keys() & defaults


def test_commands_call_the_run_by_its_name_alone() -> None:
    lines = [command.line for command in commands(RunFolder("/home/somebody/my run"))]
    assert "python -m pipeline export 'my run'/condensed --to hub --out 'my run'-hub" in lines
    assert not any("somebody" in line for line in lines)


def test_the_data_are_called_by_a_published_name_or_by_their_folder() -> None:
    assert name_of(Data(source="torchvision", name="MNIST", path="/data")) == "MNIST"
    assert name_of(Data(source="image_folder", name="CIFAR10", path="/home/me/photos/")) == "photos"
    assert name_of(Data()) == "digits"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/home/me/run/a.arrow: is damaged", "…/a.arrow: is damaged"),
        ("s3://bucket/run/a.arrow: is damaged", "…/a.arrow: is damaged"),
        ("no file ~/data/x, none in '/data/y/z'", "no file …/x, none in '…/z'"),
        ("3/4 of 10 images/s", "3/4 of 10 images/s"),
    ],
)
def test_folders_are_left_out_of_messages(text: str, shown: str) -> None:
    assert without_folders(text) == shown
