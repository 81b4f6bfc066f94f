"""The table of keys follows the settings' classes, and the names of the sources are those that exist."""

import pytest

from pipeline.config.keys import NAMES, keys, sections
from pipeline.config.run_config import Data
from pipeline.config.sources import SOURCES
from pipeline.data.sources.registry import source_class
from pipeline.errors import UserError


def test_types_and_defaults() -> None:
    table = keys()
    assert (table["seed"].kinds, table["seed"].default) == ((int,), 0)
    assert table["condense.learning_rate"].kinds == (float,)
    assert (table["data.classes"].kinds, table["data.classes"].default) == ((NAMES,), None)
    assert table["evaluate.architectures"].default == ["convnet3"]
    assert table["kernel.bandwidth"].choices == ("mean", "median", "fixed")
    assert table["data.path"].choices == ()
    assert "kernel" in sections()
    assert "seed" not in sections()


def test_lists_of_names_are_all_that_have_the_type() -> None:
    lists = {name for name, key in keys().items() if NAMES in key.kinds}
    assert lists == {"data.classes", "evaluate.architectures", "evaluate.sets", "report.loggers", "tune.loggers"}


@pytest.mark.parametrize("value", ["a, b", ["a", "b"], ("a", "b")])
def test_lists_of_names_are_read_in_every_form(value: object) -> None:
    assert keys()["evaluate.sets"].typed(value, "here") == ("a", "b")


def test_truth_values_are_for_settings_of_that_type() -> None:
    assert keys()["evaluate.flip"].typed(True, "here") is True
    for name in ("seed", "condense.learning_rate", "data.path", "data.classes", "kernel.bandwidth"):
        with pytest.raises(UserError, match=f"^here: {name}: given true, needed a value like"):
            keys()[name].typed(True, "here")


def test_the_kinds_of_sources_are_those_of_the_table() -> None:
    assert keys()["data.source"].choices == tuple(SOURCES)


@pytest.mark.parametrize("kind", SOURCES)
def test_every_kind_of_source_has_its_class(kind: str) -> None:
    assert {"index", "read"} <= set(dir(source_class(kind)))


def test_an_unknown_kind_of_source_is_refused_in_code_too() -> None:
    with pytest.raises(ValueError, match=r"data\.source: given 'folder', allowed: digits, parquet"):
        Data(source="folder")
