"""Durations and rungs of a search, and what the section ``tune`` refuses."""

import pytest

from pipeline.cli.commands import seconds_of
from pipeline.config.parsing import with_settings
from pipeline.config.run_config import RunConfig
from pipeline.errors import UserError
from pipeline.tune.task import rung_iterations


@pytest.mark.parametrize(
    ("text", "seconds"), [("2h", 7200), ("90m", 5400), ("1h30m", 5400), ("45s", 45), ("600", 600), ("0.5h", 1800)]
)
def test_durations(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "h", "2 h", "2x", "-1h", "0", "0h", "1h30"])
def test_a_duration_that_is_none(text: str) -> None:
    with pytest.raises(UserError, match="2h, 1h30m, 90s"):
        seconds_of(text)


@pytest.mark.parametrize(
    ("iterations", "rungs", "reduction", "expected"),
    [(60, 3, 3, (7, 20, 60)), (500, 3, 3, (56, 167, 500)), (2, 3, 3, (1, 2)), (1, 5, 2, (1,)), (64, 1, 4, (64,))],
)
def test_rungs(iterations: int, rungs: int, reduction: int, expected: tuple[int, ...]) -> None:
    assert rung_iterations(iterations, rungs, reduction) == expected


@pytest.mark.parametrize(
    "setting",
    [
        "tune.seeds=1",
        "tune.rungs=0",
        "tune.reduction=1",
        "tune.loggers=tensorflow",
        "tune.searcher=hyperopt",
        "tune.validation_fraction=0",
        "tune.classes=0",
        "tune.final=both",
    ],
)
def test_settings_out_of_range(setting: str) -> None:
    with pytest.raises(UserError, match=setting.split("=")[0]):
        with_settings(RunConfig(), [setting])


def test_loggers_are_listed_with_commas() -> None:
    assert with_settings(RunConfig(), ["tune.loggers=mlflow,wandb"]).tune.loggers == ("mlflow", "wandb")
