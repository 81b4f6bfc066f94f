"""Settings that users rely on, and how a test asks for the message of a refused one."""

import pytest

from pipeline.config.parsing import with_settings
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
"""Keys that the documentation and stored configurations depend on."""


def refusal(*settings: str) -> str:
    """The message with which settings are refused; it is one line."""
    with pytest.raises(UserError) as caught:
        with_settings(RunConfig(), settings)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)
