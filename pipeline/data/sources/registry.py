"""Kinds of sources by name."""

from pipeline.config.run_config import Data
from pipeline.data.sources.digits import Digits
from pipeline.data.sources.image_folder import ImageFolder
from pipeline.data.sources.parquet import Parquet
from pipeline.data.sources.protocol import Source, SourceListing
from pipeline.data.sources.torchvision_sets import TorchvisionSet
from pipeline.data.sources.webdataset import WebDataset

KINDS: dict[str, type[Source]] = {
    "digits": Digits,
    "image_folder": ImageFolder,
    "parquet": Parquet,
    "torchvision": TorchvisionSet,
    "webdataset": WebDataset,
}
"""Class of every value of ``data.source``."""


def open_source(data: Data, listing: SourceListing | None = None) -> Source:
    """Returns the source that the settings name.

    Args:
        data: settings of the source.
        listing: what planning found out about it, or None while planning.

    Raises:
        UserError: a setting is missing or does not suit this kind of source.
    """
    return KINDS[data.source](data, listing)
