"""Opens the source that the settings name. ``pipeline.config.sources`` lists the kinds."""

import importlib

from pipeline.config.run_config import Data
from pipeline.config.sources import SOURCES
from pipeline.data.sources.protocol import Source, SourceListing


def open_source(data: Data, listing: SourceListing | None = None) -> Source:
    """Returns the source that the settings name.

    Args:
        data: settings of the source.
        listing: what planning found out about it, or None while planning.

    Raises:
        UserError: a setting is missing or does not suit this kind of source.
    """
    return source_class(data.source)(data, listing)


def source_class(kind: str) -> type[Source]:
    """The class that reads a kind of source; its module is imported here, at its first use."""
    module, _, name = SOURCES[kind].partition(":")
    return getattr(importlib.import_module(module), name)
