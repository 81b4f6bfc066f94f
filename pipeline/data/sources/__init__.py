"""Sources of labelled images: one file per kind of source, and one protocol."""

from pipeline.data.sources.protocol import Item, Source, SourceIndex
from pipeline.data.sources.registry import open_source

__all__ = ["Item", "Source", "SourceIndex", "open_source"]
