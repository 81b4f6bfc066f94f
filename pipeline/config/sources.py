"""The kinds of sources: what ``data.source`` may be, and the class that reads each kind.

This table is the only place that lists them: settings, the registry, help and documentation follow it. Classes are
named, not imported, so that settings need neither Arrow nor scikit-learn.
"""

from typing import TYPE_CHECKING, Literal

SOURCES = {
    "digits": "pipeline.data.sources.digits:Digits",
    "parquet": "pipeline.data.sources.parquet.source:Parquet",
    "image_folder": "pipeline.data.sources.image_folder:ImageFolder",
    "torchvision": "pipeline.data.sources.torchvision_sets:TorchvisionSet",
    "webdataset": "pipeline.data.sources.webdataset:WebDataset",
}
"""``MODULE:CLASS`` of every kind. A class is called with ``Data`` and, in a worker, with what the plan listed."""

if TYPE_CHECKING:
    SourceKind = str
else:
    SourceKind = Literal[tuple(SOURCES)]
    """The type of ``data.source``: one of the names above."""
