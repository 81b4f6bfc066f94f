"""Loads configurations and activates their storage settings. No other module activates them."""

from collections.abc import Iterable

from pipeline.config.parsing import from_dict, with_settings
from pipeline.config.run_config import RunConfig
from pipeline.errors import UserError
from pipeline.storage import s3
from pipeline.storage.objects import read_json
from pipeline.storage.paths import absolute


def load_config(path: str) -> RunConfig:
    """The configuration of a JSON file, such as a run's config.json. Missing keys have their defaults.

    Raises:
        UserError: no such file, no JSON, an unknown key, or a value that is not allowed.
    """
    try:
        return from_dict(read_json(absolute(path)), origin=path)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise UserError(f"{path}: is not a file; give a JSON file, such as a run's config.json") from None


def activate(config: RunConfig, changes: Iterable[str] = ()) -> RunConfig:
    """Returns the configuration with the changes applied, and makes its storage settings those of this process.

    A configuration passes through here where it is made: from the command line, or from the record of a run. Processes
    that are started later inherit the settings, which remain active until the next call.

    Args:
        config: of the run.
        changes: ``KEY=VALUE`` as ``--set`` takes them.

    Raises:
        UserError: a change names an unknown key or has a value that is not allowed.
    """
    changes = list(changes)
    config = with_settings(config, changes) if changes else config
    s3.use(config.storage)
    return config
