"""Opens the source that the settings name. ``pipeline.config.sources`` lists the kinds."""

import importlib
from collections.abc import Callable

from pipeline.config.run_config import Data
from pipeline.config.sources import SOURCES
from pipeline.data.sources.protocol import Source, SourceListing


def open_source(data: Data, known: SourceListing | None = None) -> Source:
    """The source that the settings name. Raises UserError if its path does not fit.

    Args:
        data: its settings.
        known: what was found out about it before, if it was.
    """
    return source_class(data.source)(data, known)


def source_class(kind: str) -> Callable[[Data, SourceListing | None], Source]:
    """The class that reads a kind of source; its module is imported here, at its first use."""
    module, _, name = SOURCES[kind].partition(":")
    return getattr(importlib.import_module(module), name)
