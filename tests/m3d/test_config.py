"""Every setting outside its range is one line that names the key, what was given and what is allowed."""

import dataclasses

import pytest

from m3d import Augment, Condense, ConfigError, Encoder, Evaluate, Kernel, Train
from tests.helpers import unchecked

NAN, INF = float("nan"), float("inf")
TRAIN = {"epochs": 1, "batch": 1}
RANGES = [
    *((Kernel, "kernel", "bandwidth_multiplier", given, {}) for given in (0.0, -1.0, NAN, INF)),
    *((Kernel, "kernel", "scales", given, {}) for given in (0, -3, 65)),
    *((Kernel, "kernel", "scale_factor", given, {}) for given in (1.0, 0.5, NAN, INF)),
    *((Kernel, "kernel", "bandwidth_value", given, {"bandwidth": "fixed"}) for given in (None, 0.0, -1.0, NAN, INF)),
    *((Augment, "augment", "strategy", given, {}) for given in ("colour", "crop__flip", "crop_none", "Crop")),
    *((Augment, "augment", name, given, {}) for name in ("crop_ratio", "cutout_ratio") for given in (-0.1, 1.1, NAN)),
    *((Augment, "augment", "flip_probability", given, {}) for given in (-0.1, 1.1, NAN)),
    *(
        (Augment, "augment", name, given, {})
        for name in ("brightness", "saturation", "contrast")
        for given in (-1.0, 101.0, NAN)
    ),
    *((Augment, "augment", "scale_ratio", given, {}) for given in (0.9, 101.0, NAN)),
    *((Augment, "augment", "rotate_degrees", given, {}) for given in (-1.0, 181.0, NAN)),
    *((Encoder, "encoder", "width", given, {}) for given in (0, -1, 2**31)),
    *(
        (Condense, "condense", name, given, {})
        for name in ("images_per_class", "iterations")
        for given in (0, -1, 2**31)
    ),
    *(
        (Condense, "condense", name, 0, {})
        for name in ("iterations_per_model", "batch_real", "batch_synthetic_max", "log_every")
    ),
    (Condense, "condense", "block", -1, {}),
    *((Condense, "condense", "factor", given, {}) for given in (0, 17)),
    *((Condense, "condense", "momentum", given, {}) for given in (-0.1, 1.0, NAN)),
    *((Condense, "condense", "learning_rate", given, {}) for given in (0.0, -1.0, NAN, INF)),
    *((Train, "train", name, 0, {**TRAIN}) for name in ("epochs", "batch")),
    *((Train, "train", "learning_rate", given, {**TRAIN}) for given in (0.0, -1.0, NAN)),
    (Train, "train", "decay", 0.0, {**TRAIN}),
    (Train, "train", "momentum", 1.0, {**TRAIN}),
    (Train, "train", "cutmix_probability", 1.5, {**TRAIN}),
    *((Evaluate, "evaluate", name, 0, {}) for name in ("seeds", "epochs")),
    (Evaluate, "evaluate", "architectures", (), {}),
]

CHOICES = [
    (Kernel, "kernel", "bandwidth"),
    (Kernel, "kernel", "estimator"),
    (Augment, "augment", "pick"),
    (Condense, "condense", "pixel_step"),
    (Condense, "condense", "start"),
    (Evaluate, "evaluate", "protocol"),
    (Evaluate, "evaluate", "on"),
]


def case_id(case):
    kind, _, name, given, _ = case
    return f"{kind.__name__}-{name}-{given}"


@pytest.mark.parametrize("case", RANGES, ids=case_id)
def test_exception(case):
    kind, section, name, given, others = case
    with pytest.raises(ConfigError) as error:
        kind(**{**others, name: given})
    message = str(error.value)
    shown = list(given) if isinstance(given, tuple) else given
    assert message.startswith(f"{section}.{name}: given {shown!r}, allowed: ")
    assert "\n" not in message
    assert len(message.split("allowed: ")[1]) > 3


@pytest.mark.parametrize(("kind", "section", "name"), CHOICES)
def test_exception_a_choice_that_there_is_not(kind, section, name):
    # Misspelt, a choice must not silently be another one (Kernel(estimator="biasd") would be unbiased).
    with unchecked(), pytest.raises(ConfigError, match=rf"^{section}\.{name}: given 'misspelt', allowed: "):
        kind(**{name: "misspelt"})


def test_exception_a_bandwidth_that_would_be_ignored():
    with pytest.raises(
        ConfigError,
        match=r"kernel\.bandwidth_value: given 2\.0, but kernel\.bandwidth is 'mean'; set kernel\.bandwidth=fixed",
    ):
        Kernel(bandwidth_value=2.0)


@pytest.mark.parametrize("config", [Kernel(), Augment(), Encoder(), Condense(), Train(epochs=1, batch=1), Evaluate()])
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
