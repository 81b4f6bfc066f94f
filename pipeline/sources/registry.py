"""Sources by name."""

from collections.abc import Callable

from pipeline.config import Data
from pipeline.errors import UserError
from pipeline.sources.digits import Digits
from pipeline.sources.image_folder import ImageFolder
from pipeline.sources.parquet import Parquet
from pipeline.sources.protocol import Source
from pipeline.sources.torchvision_sets import TorchvisionSet

_KINDS: dict[str, Callable[[Data], Source]] = {
    "digits": Digits,
    "image_folder": ImageFolder,
    "parquet": Parquet,
    "torchvision": TorchvisionSet,
}


def open_source(data: Data) -> Source:
    """The source that the settings name. Raises UserError where its path does not fit."""
    if data.path is not None and data.path.startswith("s3://"):
        raise UserError(f"data.path: given {data.path!r}; sources are read from local folders, copy it there first")
    return _KINDS[data.source](data)
