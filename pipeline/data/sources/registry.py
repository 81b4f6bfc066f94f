"""Sources by name."""

from collections.abc import Callable

from pipeline.config.run_config import Data
from pipeline.data.sources.digits import Digits
from pipeline.data.sources.image_folder import ImageFolder
from pipeline.data.sources.parquet import Parquet
from pipeline.data.sources.protocol import Source, SourceListing
from pipeline.data.sources.torchvision_sets import TorchvisionSet
from pipeline.data.sources.webdataset import WebDataset
from pipeline.errors import UserError
from pipeline.storage.paths import is_local

_KINDS: dict[str, Callable[[Data], Source]] = {
    "digits": Digits,
    "image_folder": ImageFolder,
    "parquet": Parquet,
    "torchvision": TorchvisionSet,
    "webdataset": WebDataset,
}


def open_source(data: Data, known: SourceListing | None = None) -> Source:
    """The source that the settings name. Raises UserError where its path does not fit.

    Args:
        data: its settings.
        known: what was found out about it before, if it was.
    """
    if data.source == "torchvision" and data.path is not None and not is_local(data.path):
        raise UserError(
            f"data.path: given {data.path!r}; torchvision reads local folders only: copy it there, or store the data as parquet"
        )
    if known is not None and data.source == "image_folder":
        return ImageFolder(data, known)
    if known is not None and data.source == "webdataset":
        return WebDataset(data, known)
    return _KINDS[data.source](data)
