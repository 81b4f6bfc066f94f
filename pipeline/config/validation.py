"""Refuses settings that do not go together, before anything is read or started."""

from m3d.config import ConfigError
from m3d.encoders import architecture, check_name
from m3d.formation import tile_sides
from m3d.kernels import kernel_named
from pipeline.config.imagenet_subsets import subset
from pipeline.config.run_config import RunConfig
from pipeline.config.sections import section
from pipeline.errors import UserError


def check(config: RunConfig) -> None:
    """Checks everything in the settings that can be checked without the data.

    Raises:
        UserError: names the key at fault and what is allowed.
    """
    try:
        if config.data.subset:
            subset(config.data.subset)
        kernel_named(config.kernel.name)
        check_architecture(config.encoder.name, "encoder.name", config)
        for name in config.evaluate.architectures:
            check_architecture(name, "evaluate.architectures", config)
        check_name(config.pretrain.architecture, "pretrain.architecture")
        with section("condense"):
            tile_sides(config.data.image_size, config.condense.factor)
        if config.kernel.estimator == "unbiased" and min(config.condense.views, config.condense.batch_real) < 2:
            raise ConfigError(
                "kernel.estimator: unbiased needs two views per class; raise condense.images_per_class or condense.factor"
            )
    except ConfigError as error:
        raise UserError(str(error)) from None
    if config.evaluate.on == "validation" and not config.data.validation_fraction:
        raise UserError("evaluate.on: given 'validation', but data.validation_fraction is 0; set it, such as 0.1")


def check_architecture(name: str, key: str, config: RunConfig) -> None:
    """Raises ConfigError for an unknown network and for one that needs larger images."""
    check_name(name, key)
    try:
        architecture(name, channels=config.data.channels or 3, image_size=config.data.image_size, classes=2)
    except ConfigError as error:
        raise error.named(key) from None
