"""Every setting outside its range is reported in one line: the field, what was given and what is allowed."""

import dataclasses
import pickle

import pytest

from m3d import Augment, CompilerError, Condense, ConfigError, Encoder, Evaluate, Kernel, Method, Train, WholeTrain
from tests.helpers import unchecked

NAN, INF = float("nan"), float("inf")
TRAIN = {"epochs": 1, "batch": 1}
WHOLE = {"epochs": 1, "batch": 1, "learning_rate": 0.1}
RANGES = [
    *((Kernel, "bandwidth_multiplier", given, {}) for given in (0.0, -1.0, NAN, INF)),
    *((Kernel, "scales", given, {}) for given in (0, -3, 65)),
    *((Kernel, "scale_factor", given, {}) for given in (1.0, 0.5, NAN, INF)),
    *((Kernel, "bandwidth_value", given, {"bandwidth": "fixed"}) for given in (None, 0.0, -1.0, NAN, INF)),
    *((Augment, "strategy", given, {}) for given in ("colour", "crop__flip", "crop_none", "Crop")),
    *((Augment, name, given, {}) for name in ("crop_ratio", "cutout_ratio") for given in (-0.1, 1.1, NAN)),
    *((Augment, "flip_probability", given, {}) for given in (-0.1, 1.1, NAN)),
    *((Augment, name, given, {}) for name in ("brightness", "saturation", "contrast") for given in (-1.0, 101.0, NAN)),
    *((Augment, "scale_ratio", given, {}) for given in (0.9, 101.0, NAN)),
    *((Augment, "rotate_degrees", given, {}) for given in (-1.0, 181.0, NAN)),
    *((Encoder, "width", given, {}) for given in (0, -1, 2**31)),
    *((Condense, name, given, {}) for name in ("images_per_class", "iterations") for given in (0, -1, 2**31)),
    *((Condense, name, 10**6 + 1, {}) for name in ("images_per_class", "batch_real", "batch_synthetic_max")),
    *((Encoder, "width", given, {}) for given in (2**14 + 1, 2**31 - 1)),
    *((Evaluate, "seeds", given, {}) for given in (10_001, 2**31 - 1)),
    (Train, "batch", 2**31 - 1, {**TRAIN}),
    *((Condense, name, 0, {}) for name in ("iterations_per_model", "batch_real", "batch_synthetic_max", "log_every")),
    (Condense, "block", -1, {}),
    *((Condense, "factor", given, {}) for given in (0, 17)),
    *((Condense, "momentum", given, {}) for given in (-0.1, 1.0, NAN)),
    *((Condense, "learning_rate", given, {}) for given in (0.0, -1.0, NAN, INF)),
    *((Train, name, 0, {**TRAIN}) for name in ("epochs", "batch")),
    *((Train, "learning_rate", given, {**TRAIN}) for given in (0.0, -1.0, NAN)),
    (Train, "decay", 0.0, {**TRAIN}),
    (Train, "momentum", 1.0, {**TRAIN}),
    (Train, "cutmix_probability", 1.5, {**TRAIN}),
    (Train, "milestones", (0.5, 1.5), {**TRAIN}),
    *((WholeTrain, name, 0, {**WHOLE}) for name in ("epochs", "batch")),
    *((WholeTrain, name, 1.0, {**WHOLE}) for name in ("momentum", "weight_decay", "warmup")),
    (WholeTrain, "learning_rate", NAN, {**WHOLE}),
    *((Evaluate, name, 0, {}) for name in ("seeds", "epochs")),
    (Evaluate, "architectures", (), {}),
]

CHOICES = [
    (Kernel, "bandwidth"),
    (Kernel, "estimator"),
    (Augment, "pick"),
    (Condense, "pixel_step"),
    (Condense, "start"),
    (WholeTrain, "schedule"),
    (Evaluate, "protocol"),
]


def case_id(case):
    kind, name, given, _ = case
    return f"{kind.__name__}-{name}-{given}"


@pytest.mark.parametrize("case", RANGES, ids=case_id)
def test_exception(case):
    kind, name, given, others = case
    with pytest.raises(ConfigError) as error:
        kind(**{**others, name: given})
    message = str(error.value)
    shown = list(given) if name == "architectures" else given
    assert message.startswith(f"{name}: given {shown!r}, allowed: ")
    assert "\n" not in message
    assert len(message.split("allowed: ")[1]) > 3


@pytest.mark.parametrize(("kind", "name"), CHOICES)
def test_exception_a_choice_that_there_is_not(kind, name):
    # Misspelt, a choice must not silently be another one (Kernel(estimator="biasd") would be unbiased).
    with unchecked(), pytest.raises(ConfigError, match=rf"^{name}: given 'misspelt', allowed: "):
        kind(**{**(WHOLE if kind is WholeTrain else {}), name: "misspelt"})


def test_exception_a_bandwidth_that_would_be_ignored():
    with pytest.raises(
        ConfigError,
        match=r"bandwidth_value: given 2\.0, but bandwidth is 'mean'; set bandwidth to fixed to use it",
    ):
        Kernel(bandwidth_value=2.0)


def test_an_error_can_be_given_a_section():
    error = ConfigError("given 0, allowed: 1", field="scales")
    assert str(error) == "scales: given 0, allowed: 1"
    assert str(error.within("kernel")) == "kernel.scales: given 0, allowed: 1"
    assert str(error.within("kernel").within("method")) == "kernel.scales: given 0, allowed: 1"
    assert str(error.named("levels")) == "levels: given 0, allowed: 1"
    assert str(ConfigError("no field").within("kernel")) == "no field"
    assert type(CompilerError("none", field="compile").within("condense")) is CompilerError


def test_an_error_survives_being_sent_to_another_process():
    sent = pickle.loads(pickle.dumps(ConfigError("given 0, allowed: 1", field="scales")))
    assert (str(sent), sent.field, sent.text) == ("scales: given 0, allowed: 1", "scales", "given 0, allowed: 1")


def test_the_method_defaults_to_the_paper_and_its_matching_ignores_the_schedule():
    assert Method() == Method(kernel=Kernel(), augment=Augment(), encoder=Encoder(), condense=Condense())
    changed = Method(kernel=Kernel(scales=3), condense=Condense(images_per_class=10))
    assert changed.matching == Method(kernel=Kernel(scales=3))


@pytest.mark.parametrize(
    "config", [Kernel(), Augment(), Encoder(), Condense(), Method(), Train(epochs=1, batch=1), Evaluate()]
)
def test_frozen_and_keyword_only(config):
    field = dataclasses.fields(config)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(config, field, getattr(config, field))
    with pytest.raises(TypeError):
        type(config)(getattr(config, field))


def test_edges_of_the_ranges_are_allowed():
    Kernel(scales=1, scale_factor=1.01, bandwidth="fixed", bandwidth_value=1e-9)
    Kernel(scales=64)
    Augment(
        crop_ratio=0.0, cutout_ratio=1.0, scale_ratio=1.0, rotate_degrees=180.0, brightness=0.0, flip_probability=1.0
    )
    Condense(momentum=0.0, factor=16, block=0, images_per_class=1, iterations=1, learning_rate=1e-9)
