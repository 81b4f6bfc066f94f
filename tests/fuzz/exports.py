"""Exports of condensed sets, and how ``import`` reads them."""

import shutil
import tempfile
from pathlib import Path

from pipeline.exports.export_set import ExportRequest, run_export
from pipeline.exports.import_set import ImportRequest, run_import
from pipeline.formats.condensed_reader import load_condensed
from tests.pipeline.support.condensed_sets import write_set

FORMATS = {
    "npz": "condensed.npz",
    "idc": "data.pt",
    "ddranking": "images.pt",
    "hub": "data",
    "webdataset": "shard-000000.tar",
}
"""Formats by a file that their exports have. The others are read by the same code."""


def write_exports(folder: Path) -> None:
    """An export of every format, and one of arrays without m3d.json."""
    home = folder.parent / "exported"
    shutil.rmtree(home, ignore_errors=True)
    write_set(home)
    for name in FORMATS:
        run_export(str(home), ExportRequest(format=name), str(folder / name))
    (folder / "npz-alone").mkdir()
    shutil.copy(folder / "npz" / "condensed.npz", folder / "npz-alone")


def read_exports(folder: Path) -> None:
    """Imports what a folder contains, and loads the set."""
    name = next((name for name, file in FORMATS.items() if (folder / file).exists()), "npz")
    with tempfile.TemporaryDirectory() as out:
        run_import(str(folder), ImportRequest(format=name), f"{out}/set")
        load_condensed(f"{out}/set")
