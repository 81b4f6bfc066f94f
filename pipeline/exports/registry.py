"""Formats of exports by the name that selects them on the command line.

Modules are named, not imported, so that the parser of the command line needs neither torch nor Arrow.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.exports.export_format import ExportFormat

FORMATS = {
    "hub": "pipeline.exports.formats.hub",
    "imagefolder": "pipeline.exports.formats.imagefolder",
    "webdataset": "pipeline.exports.formats.webdataset",
    "npz": "pipeline.exports.formats.npz",
    "idc": "pipeline.exports.formats.idc",
    "dc": "pipeline.exports.formats.dc",
    "mtt": "pipeline.exports.formats.mtt",
    "ddranking": "pipeline.exports.formats.ddranking",
    "rethinkdc": "pipeline.exports.formats.rethinkdc",
}
"""The module of every format, whose ``FORMAT`` reads and writes it. This table is the only place that lists them."""


def export_format(name: str) -> "ExportFormat":
    """Returns a format by its name; its module is imported here, at its first use."""
    return importlib.import_module(FORMATS[name]).FORMAT
