"""Validation: every preset passes, and settings that do not go together are refused."""

from pathlib import Path

import pytest

from pipeline.config.parsing import with_settings
from pipeline.config.presets import PRESETS, preset
from pipeline.config.run_config import RunConfig
from pipeline.config.validation import check
from pipeline.errors import UserError


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_valid(name: str, tmp_path: Path) -> None:
    config = preset(name)
    check(config if config.data.source == "digits" else with_settings(config, [f"data.path={tmp_path}"]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["data.subset=imagenett"], "data.subset: given 'imagenett', which may be imagenette; choose one of them"),
        (["kernel.name=gausian"], "kernel.name: given 'gausian', allowed: .*did you mean 'gaussian'"),
        (["encoder.name=convnt3"], "encoder.name: .*'convnet3'"),
        (["encoder.name=convnet8"], "encoder.name: .*convnet8.*needs images"),
        (["evaluate.architectures=mlp,resnet81"], "evaluate.architectures: .*'resnet18'"),
        (["pretrain.architecture=convnt3"], "pretrain.architecture: .*'convnet3'"),
        (["data.image_size=8", "condense.factor=16"], "condense.factor: given 16, but an image of 8 px has no room"),
        (["kernel.estimator=unbiased", "condense.factor=1"], "kernel.estimator: unbiased needs two views per class"),
        (["evaluate.on=validation"], "evaluate.on: given 'validation', but data.validation_fraction is 0"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_settings_that_do_not_go_together(settings: list[str], message: str) -> None:
    with pytest.raises(UserError, match=f"^{message}"):
        check(with_settings(RunConfig(), settings))
