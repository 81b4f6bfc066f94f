"""Settings of an evaluation: m3d's fields and the pipeline's, under one section."""

import dataclasses

import pytest

import m3d
from pipeline.config.evaluate import SETS, Evaluate
from pipeline.config.parsing import with_settings
from pipeline.config.run_config import RunConfig
from pipeline.errors import UserError
from tests.helpers import unchecked


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("seeds=0", "evaluate.seeds: given 0, allowed: an integer from 1"),
        ("epochs=0", "evaluate.epochs: given 0, allowed: an integer from 1"),
        ("architectures=[]", "evaluate.architectures: given [], allowed: at least one name"),
        ("best_epoch=-1", "evaluate.best_epoch: given -1, allowed: an integer from 0"),
        ("together=-1", "evaluate.together: given -1, allowed: an integer from 0"),
        ("sets=condensed,other", "evaluate.sets: given ['condensed', 'other'], allowed: some of condensed, random"),
        ("sets=[]", "evaluate.sets: given [], allowed: some of condensed, random"),
    ],
)
def test_messages_name_the_section(setting: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        with_settings(RunConfig(), [f"evaluate.{setting}"])
    assert message in str(error.value)


@pytest.mark.parametrize("name", ["protocol", "augment", "labels", "compile", "on"])
def test_a_misspelt_choice(name: str) -> None:
    with unchecked(), pytest.raises(m3d.ConfigError, match=rf"^{name}: given 'misspelt', allowed: "):
        Evaluate(**{name: "misspelt"})  # pyright: ignore[reportArgumentType]


def test_order_of_the_fields_is_that_of_stored_configurations() -> None:
    names = [field.name for field in dataclasses.fields(Evaluate)]
    assert names == [
        *("protocol", "epochs", "seeds", "architectures", "flip", "augment", "labels", "sets"),
        *("best_epoch", "together", "compile", "on"),
    ]
    assert set(Evaluate().sets) <= set(SETS)
