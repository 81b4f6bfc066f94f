"""The public names, and that importing the package imports nothing large."""

import inspect
import subprocess
import sys

import pytest

import m3d

PUBLIC = {
    *("Augment", "ClassImages", "CompilerError", "Condense", "CondenseState", "Condensed", "Condenser", "ConfigError"),
    *("Encoder", "Evaluate", "ImageParts", "Keeper", "Kernel", "KernelSpec", "Method", "NotFiniteError", "Outcome"),
    *("PROTOCOLS", "RealImages", "Recipe", "RowImages", "Score", "ShapeError", "Step", "StreamedImages", "TestSet"),
    *("Train", "Trainer", "WholeSetTrainer", "WholeTrain", "accuracy", "condense", "confusion", "decode"),
    *("imagenet_epochs", "images_needed", "iterate", "mmd2", "moments", "mosaic", "standardise", "starting_images"),
    *("train", "train_and_score", "train_together", "training_of", "trials", "trials_together"),
}


def test_public_names():
    assert len(m3d.__all__) == len(set(m3d.__all__))
    assert set(m3d.__all__) == PUBLIC
    assert set(dir(m3d)) >= PUBLIC


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_every_name_is_importable_and_documented(name):
    value = getattr(m3d, name)
    assert inspect.getdoc(value)
    if inspect.isclass(value) or inspect.isfunction(value):
        assert value.__module__.startswith("m3d.")
        assert value.__name__ == name
        assert not (value.__doc__ or "").startswith(f"{name}(")  # the doc of a dataclass without one


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"module 'm3d' has no attribute 'condens'"):
        m3d.__getattr__("condens")


@pytest.mark.parametrize(
    "code",
    [
        "import m3d",
        "from m3d import Augment, Condense, Encoder, Evaluate, Kernel, Method, Recipe, Train, WholeTrain, training_of",
        "from m3d.config import ConfigError, check",
        "from m3d.encoders import check_name, names",
        "from m3d.training.protocols import PROTOCOLS",
        "import pipeline.config.evaluate, pipeline.config.run_config, pipeline.config.presets, pipeline.config.parsing",
    ],
)
def test_settings_are_importable_without_torch(code):
    command = [
        sys.executable,
        "-c",
        f"{code}\nimport sys\nprint(sorted({{'torch', 'numpy', 'ray'}} & set(sys.modules)))",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    assert done.stdout.strip() == "[]"
