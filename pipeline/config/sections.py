"""Names of settings with their section: m3d's errors name a field, users of the pipeline set ``section.field``."""

import contextlib
from collections.abc import Iterator

from m3d.config import ConfigError


@contextlib.contextmanager
def section(name: str) -> Iterator[None]:
    """Adds the section to the ConfigErrors of a block of code: ``learning_rate`` becomes ``condense.learning_rate``."""
    try:
        yield
    except ConfigError as error:
        raise error.within(name) from None
