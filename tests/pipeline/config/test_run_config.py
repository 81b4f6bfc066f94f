"""RunConfig: its keys, and that every value out of range is refused by a line that names the key."""

import dataclasses

import pytest

from pipeline.config.keys import keys
from pipeline.config.run_config import RunConfig
from tests.pipeline.support.settings import PROMISED, refusal


@pytest.mark.parametrize("key", PROMISED)
def test_promised_key_exists(key: str) -> None:
    assert key in keys()


def test_keys_are_the_fields() -> None:
    nested = dataclasses.asdict(RunConfig())
    fields = {f"{s}.{k}" for s, inner in nested.items() if isinstance(inner, dict) for k in inner}
    assert set(keys()) == fields | {"seed"}


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
    message = refusal(setting)
    assert key in message
    assert allowed in message.replace(value, "", 1)


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
