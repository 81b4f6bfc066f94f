"""RunConfig: round trips, ``--set``, and that every mistake is one line that names the key."""

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.parsing import differing_keys, from_dict, known_keys, to_dict, with_settings
from pipeline.config.presets import PRESETS, preset
from pipeline.config.run_config import RunConfig
from pipeline.errors import UserError

PROMISED = [
    "seed",
    "data.source",
    "data.name",
    "data.path",
    "data.image_size",
    "data.classes",
    "data.on_bad_image",
    "condense.iterations",
    "condense.images_per_class",
    "condense.learning_rate",
    "condense.factor",
    "condense.iterations_per_model",
    "condense.batch_real",
    "condense.precision",
    "kernel.name",
    "kernel.bandwidth",
    "kernel.bandwidth_multiplier",
    "kernel.scales",
    "kernel.scale_factor",
    "evaluate.seeds",
    "evaluate.epochs",
    "evaluate.protocol",
    "evaluate.architectures",
    "resources.address",
    "resources.actors",
    "resources.cpus_per_actor",
    "resources.gpus_per_actor",
    "resources.classes_per_group",
]


def refusal(*settings: str) -> str:
    """The message for settings that are refused."""
    with pytest.raises(UserError) as caught:
        with_settings(RunConfig(), settings)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def value_at(config: RunConfig, key: str) -> Any:
    """What stands at a dotted key."""
    for part in key.split("."):
        config = getattr(config, part)
    return config


@pytest.mark.parametrize("key", PROMISED)
def test_promised_key_exists(key: str) -> None:
    assert key in known_keys()


def test_known_keys_are_the_fields() -> None:
    nested = dataclasses.asdict(RunConfig())
    fields = {f"{s}.{k}" for s, inner in nested.items() if isinstance(inner, dict) for k in inner}
    assert set(known_keys()) == fields | {"seed"}


@pytest.mark.parametrize("name", PRESETS)
def test_round_trip_of_presets(name: str) -> None:
    config = preset(name)
    assert from_dict(to_dict(config), origin="test") == config
    assert from_dict(json.loads(json.dumps(to_dict(config))), origin="test") == config


def test_a_runs_config_json_is_taken() -> None:
    config = with_settings(preset("cifar10_ipc10"), ["seed=7", "data.classes=cat,dog"])
    layout = {"config": to_dict(config), "resolved": {"device": "CPU"}, "versions": {}, "commit": None}
    assert from_dict(layout, origin="config.json") == config


def test_what_is_missing_has_its_default() -> None:
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
    given = value_at(with_settings(RunConfig(), [setting]), setting.partition("=")[0])
    assert given == value
    assert type(given) is type(value) or isinstance(value, int | float)


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
    told = refusal(setting)
    assert setting.partition("=")[0] in told
    assert repr(near) in told


def test_unknown_key_without_a_near_one_lists_all() -> None:
    told = refusal("xyzzy.plugh=3")
    assert "xyzzy" in told
    assert all(key in told for key in PROMISED)


@pytest.mark.parametrize("setting", ["condense.iterations", "seed", ""])
def test_setting_without_equals(setting: str) -> None:
    told = refusal(setting)
    assert setting in told
    assert "KEY=VALUE" in told


@pytest.mark.parametrize(
    ("setting", "allowed"),
    [
        ("seed=-1", "from 0"),
        ("seed=x", "integer"),
        ("seed=1.5", "integer"),
        ("data.image_size=0", "4"),
        ("data.image_size=5000", "4096"),
        ("data.image_size=big", "integer"),
        ("data.channels=2", "1, 3"),
        ("data.source=folder", "image_folder"),
        ("data.on_bad_image=ignore", "skip"),
        ("data.classes=[]", "at least one"),
        ("data.classes=a,b,a", "once"),
        ("data.classes=[[1]]", "string"),
        ("data.path=[1]", "string"),
        ("data.test_fraction=0", "above 0"),
        ("data.test_fraction=1", "below 1"),
        ("data.test_fraction=NaN", "above 0"),
        ("data.validation_fraction=1", "below 1"),
        ("data.download=maybe", "bool"),
        ("condense.iterations=-1", "1"),
        ("condense.iterations=0", "1"),
        ("condense.iterations=NaN", "finite"),
        ("condense.iterations=1e400", "finite"),
        ("condense.iterations=[]", "integer"),
        ("condense.images_per_class=0", "1"),
        ("condense.factor=0", "1"),
        ("condense.learning_rate=0", "above 0"),
        ("condense.learning_rate=Infinity", "finite"),
        ("condense.learning_rate=-Infinity", "finite"),
        ("condense.batch_real=0", "1"),
        ("condense.precision=float16", "bfloat16"),
        ("kernel.scales=0", "1"),
        ("kernel.scale_factor=1", "above 1"),
        ("kernel.scale_factor=NaN", "above 1"),
        ("kernel.bandwidth=wide", "median"),
        ("kernel.bandwidth=fixed", "above 0"),
        ("kernel.bandwidth_multiplier=0", "above 0"),
        ("evaluate.seeds=0", "1"),
        ("evaluate.epochs=0", "1"),
        ("evaluate.architectures=[]", "at least one"),
        ("evaluate.protocol=mtt", "idc"),
        ("resources.actors=0", "1"),
        ("resources.gpus_per_actor=0.3", "1/k"),
        ("resources.gpus_per_actor=-1", "0, or 0.0001 and more"),
        ("resources.cpus_per_actor=0", "above 0"),
        ("resources.classes_per_group=0", "1"),
        ("resources.stall_s=NaN", "finite"),
    ],
)
def test_refused_value(setting: str, allowed: str) -> None:
    key, _, value = setting.partition("=")
    told = refusal(setting)
    assert key in told
    assert allowed in told.replace(value, "", 1)


@pytest.mark.parametrize(
    "setting",
    [
        "seed=" + "1" * 5000,
        "seed=" + "[" * 100_000,
        "seed=1" + "0" * 400,
        "condense.learning_rate=1" + "0" * 400,
        "resources.gpus_per_actor=1e-310",
        "resources.gpus_per_actor=1e308",
        "condense.iterations=99999999999",
        "seed.x=1",
        "data=3",
        "kernel={}",
    ],
    ids=lambda setting: setting[:30],
)
def test_absurd_value(setting: str) -> None:
    assert setting.partition("=")[0].split(".")[0] in refusal(setting)


@pytest.mark.parametrize("setting", ["condense.iterations=true", "seed=false", "condense.factor=true"])
def test_a_truth_value_is_no_number(setting: str) -> None:
    assert setting.partition("=")[0] in refusal(setting)


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


# Hypothesis: whatever stands in a file, the answer is a configuration or one line.

NUMBERS = st.one_of(
    st.integers(-(10**400), 10**400),
    st.floats(allow_nan=True, allow_infinity=True, allow_subnormal=True),
    st.sampled_from([0, -1, 2**31, 2**63, 10**400, 1e-310, 5e-324, 1e308]),
)
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, st.text(max_size=8))
ANY_JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
)
SECTIONS = sorted({key.split(".")[0] for key in known_keys()})


KEYS = known_keys()  # not while drawing: beartype samples at random, which hypothesis forbids there


@st.composite
def nearly_configurations(draw: st.DrawFn) -> dict[str, Any]:
    """Known keys with any values."""
    found: dict[str, Any] = {}
    for key in draw(st.lists(st.sampled_from(KEYS), max_size=4)):
        section, _, inner = key.rpartition(".")
        (found.setdefault(section, {}) if section else found)[inner] = draw(ANY_JSON)
    return found


def _answers(values: Any) -> None:
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
    _answers(values)


@given(st.dictionaries(st.sampled_from([*SECTIONS, "config"]), ANY_JSON, max_size=3))
def test_any_section_is_a_configuration_or_one_line(values: Any) -> None:
    _answers(values)


@given(nearly_configurations())
def test_any_value_is_a_configuration_or_one_line(values: Any) -> None:
    _answers(values)


@given(st.sampled_from(known_keys()), SCALARS)
def test_any_scalar_at_any_key(key: str, value: Any) -> None:
    section, _, inner = key.rpartition(".")
    _answers({section: {inner: value}} if section else {inner: value})


@given(st.sampled_from([*known_keys(), "seed.x", "data", "condense.x", ""]), st.text(max_size=12))
def test_any_setting_is_taken_or_one_line(key: str, text: str) -> None:
    try:
        with_settings(RunConfig(), [f"{key}={text}"])
    except UserError as error:
        _is_one_line(error)
