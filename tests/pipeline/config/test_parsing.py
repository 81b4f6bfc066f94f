"""Reading a RunConfig: round trips, ``--set``, and that every mistake is one line that names the key."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.keys import keys
from pipeline.config.parsing import differing_keys, from_dict, to_dict, with_settings
from pipeline.config.presets import PRESETS, preset
from pipeline.config.run_config import RunConfig
from pipeline.errors import UserError
from tests.pipeline.support.settings import PROMISED, refusal


def value_at(config: RunConfig, key: str) -> Any:
    """The value of a dotted key."""
    for part in key.split("."):
        config = getattr(config, part)
    return config


@pytest.mark.parametrize("name", PRESETS)
def test_round_trip_of_presets(name: str) -> None:
    config = preset(name)
    assert from_dict(to_dict(config), origin="test") == config
    assert from_dict(json.loads(json.dumps(to_dict(config))), origin="test") == config


def test_a_runs_config_json_is_accepted() -> None:
    config = with_settings(preset("cifar10_ipc10"), ["seed=7", "data.classes=cat,dog"])
    layout = {"config": to_dict(config), "resolved": {"device": "CPU"}, "versions": {}, "commit": None}
    assert from_dict(layout, origin="config.json") == config


def test_missing_keys_have_their_defaults() -> None:
    assert from_dict({}, origin="test") == RunConfig()
    assert from_dict({"condense": {"iterations": 3}}, origin="test").condense.images_per_class == 1


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("seed=5", 5),
        ("condense.iterations=300", 300),
        ("condense.learning_rate=0.5", 0.5),
        ("condense.learning_rate=2", 2.0),
        ("condense.learning_rate=null", None),
        ("kernel.name=linear", "linear"),
        ('kernel.name="linear"', "linear"),
        ("kernel.bandwidth=median", "median"),
        ("evaluate.flip=false", False),
        ("data.path=/a=b/c", "/a=b/c"),
        ("data.classes=cat,dog", ("cat", "dog")),
        ("data.classes=cat, dog", ("cat", "dog")),
        ("data.classes=cat", ("cat",)),
        ('data.classes=["cat","dog"]', ("cat", "dog")),
        ('data.classes=["a,b"]', ("a,b",)),
        ("data.classes=3,1", ("3", "1")),
        ("data.classes=3", ("3",)),
        ("data.classes=[3,1]", ("3", "1")),
        ("data.classes=null", None),
        ("evaluate.architectures=convnet3,resnet18", ("convnet3", "resnet18")),
        ("resources.gpus_per_actor=0.25", 0.25),
        ("resources.gpus_per_actor=0", 0),
        ("resources.address=10.0.0.1:6379", "10.0.0.1:6379"),
    ],
)
def test_setting(setting: str, value: object) -> None:
    read = value_at(with_settings(RunConfig(), [setting]), setting.partition("=")[0])
    assert read == value
    assert type(read) is type(value) or isinstance(value, int | float)


def test_settings_apply_in_order_to_one_key_each() -> None:
    config = with_settings(preset("cifar10_ipc10"), ["condense.iterations=3", "seed=1", "condense.iterations=4"])
    assert differing_keys(to_dict(preset("cifar10_ipc10")), to_dict(config)) == ["seed", "condense.iterations"]
    assert config.condense.iterations == 4


@pytest.mark.parametrize(
    ("setting", "near"),
    [
        ("condense.itertions=3", "condense.iterations"),
        ("condense.iteration=3", "condense.iterations"),
        ("iterations=3", "condense.iterations"),
        ("kernel.scale=3", "kernel.scales"),
        ("data.imagesize=3", "data.image_size"),
        ("evaluate.architecture=convnet3", "evaluate.architectures"),
        ("image_size=3", "data.image_size"),
        ("sed=3", "seed"),
    ],
)
def test_unknown_key_names_the_nearest(setting: str, near: str) -> None:
    message = refusal(setting)
    assert setting.partition("=")[0] in message
    assert repr(near) in message


def test_unknown_key_without_a_near_one_lists_all() -> None:
    message = refusal("xyzzy.plugh=3")
    assert "xyzzy" in message
    assert all(key in message for key in PROMISED)


@pytest.mark.parametrize("setting", ["condense.iterations", "seed", ""])
def test_setting_without_equals(setting: str) -> None:
    message = refusal(setting)
    assert setting in message
    assert "KEY=VALUE" in message


@pytest.mark.parametrize("values", [[], None, 3, "text", {"data": 3}, {"data": None}, {"config": 3}, {"kernel": []}])
def test_not_an_object_of_settings(values: Any) -> None:
    with pytest.raises(UserError, match=r"^here: "):
        from_dict(values, origin="here")


def test_differing_keys() -> None:
    a, b = to_dict(RunConfig()), to_dict(with_settings(RunConfig(), ["seed=1", "kernel.scales=3"]))
    assert differing_keys(a, a) == []
    assert differing_keys(a, b) == differing_keys(b, a) == ["seed", "kernel.scales"]
    assert differing_keys({"a": {"b": 1}}, {"a": {"b": 1, "c": 2}, "d": 3}) == ["a.c", "d"]
    assert differing_keys({"a": {"b": {"c": 1}}}, {"a": {"b": {"c": 2}}}) == ["a.b.c"]
    assert differing_keys({"a": {"b": 1}}, {"a": 1}) == ["a"]


# Properties: whatever a file contains, the result is a configuration or an error of one line.

NUMBERS = st.one_of(
    st.integers(-(10**400), 10**400),
    st.floats(allow_nan=True, allow_infinity=True, allow_subnormal=True),
    st.sampled_from([0, -1, 2**31, 2**63, 10**400, 1e-310, 5e-324, 1e308]),
)
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, st.text(max_size=8))
ANY_JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
)
SECTIONS = sorted({key.split(".")[0] for key in keys()})


KEYS = list(keys())  # not while drawing: beartype samples at random, which hypothesis forbids


@st.composite
def nearly_configurations(draw: st.DrawFn) -> dict[str, Any]:
    """Known keys with arbitrary values."""
    values: dict[str, Any] = {}
    for key in draw(st.lists(st.sampled_from(KEYS), max_size=4)):
        section, _, inner = key.rpartition(".")
        (values.setdefault(section, {}) if section else values)[inner] = draw(ANY_JSON)
    return values


def _is_read_or_refused(values: Any) -> None:
    try:
        config = from_dict(values, origin="file")
    except UserError as error:
        _is_one_line(error)
    else:
        assert from_dict(to_dict(config), origin="again") == config


def _is_one_line(error: Exception) -> None:
    assert len(str(error).splitlines()) == 1


@given(ANY_JSON)
def test_any_json_is_a_configuration_or_one_line(values: Any) -> None:
    _is_read_or_refused(values)


@given(st.dictionaries(st.sampled_from([*SECTIONS, "config"]), ANY_JSON, max_size=3))
def test_any_section_is_a_configuration_or_one_line(values: Any) -> None:
    _is_read_or_refused(values)


@given(nearly_configurations())
def test_any_value_is_a_configuration_or_one_line(values: Any) -> None:
    _is_read_or_refused(values)


@given(st.sampled_from(KEYS), SCALARS)
def test_any_scalar_at_any_key(key: str, value: Any) -> None:
    section, _, inner = key.rpartition(".")
    _is_read_or_refused({section: {inner: value}} if section else {inner: value})


@given(st.sampled_from([*KEYS, "seed.x", "data", "condense.x", ""]), st.text(max_size=12))
def test_any_setting_is_a_configuration_or_one_line(key: str, text: str) -> None:
    try:
        with_settings(RunConfig(), [f"{key}={text}"])
    except UserError as error:
        _is_one_line(error)


@pytest.mark.parametrize(
    "values",
    [
        {"condense.iterations": 5, "kernel": {"scales": 3}, "kernel.scale_factor": 4.0},
        {"config": {"condense.iterations": 5, "kernel.scales": 3, "kernel.scale_factor": 4.0}},
        {"condense": {"iterations": 5}, "kernel": {"scales": 3, "scale_factor": 4.0}},
    ],
)
def test_flat_keys_are_those_of_their_sections(values: dict[str, Any]) -> None:
    config = from_dict(values, origin="a.json")
    assert (config.condense.iterations, config.kernel.scales, config.kernel.scale_factor) == (5, 3, 4.0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"condense.iteration": 5}, "a.json: unknown key 'condense.iteration'; did you mean 'condense.iterations'?"),
        ({"condens.iterations": 5}, "a.json: unknown key 'condens.iterations'; did you mean 'condense.iterations'?"),
        ({"condense.iterations": 5, "condense": {"iterations": 6}}, "a.json: condense.iterations: given twice"),
        ({"seed": 1, "seed.x": 2}, "a.json: unknown key 'seed.x'"),
        ({"condense.iterations": 5, "condense": 6}, "a.json: condense.iterations: given twice"),
        (
            {"config": {}, "condense": {"iterations": 5}},
            "a.json: has 'condense' beside 'config', which holds the settings",
        ),
        ({"config": {}, "condense.iterations": 5}, "a.json: has 'condense.iterations' beside 'config'"),
        ({"condense": {"kernel.scales": 5}}, "a.json: unknown key 'condense.kernel.scales'"),
    ],
)
def test_keys_of_a_file_are_never_ignored(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        from_dict(values, origin="a.json")
    assert str(caught.value).startswith(message)
