"""The distributed pipeline: sources -> class shards -> condensed shards -> evaluation -> report.

Commands run it: ``python -m pipeline --help``. Programs read what it stores; none of these names needs Ray::

    load_condensed, CondensedDataset    a condensed set as a torch Dataset
    load_test                           the real test images of a run, for ``m3d.accuracy``
    save_condensed                      stores a condensed set, such as the result of ``m3d.condense``
    RunFolder                           where each file of a run is, its record and its configuration
    read_rows                           the results of ``evaluate``: the rows of a run's evaluation.json
    load_config, RunConfig              a configuration file, such as a run's config.json
    preset, with_settings               a preset, and a configuration with ``KEY=VALUE`` applied
    UserError, FailedError              one line for a mistake of the caller's, and for a failure
"""

import importlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.config.parsing import with_settings
    from pipeline.config.presets import preset
    from pipeline.config.run_config import RunConfig
    from pipeline.data.prepared_dataset import load_test
    from pipeline.errors import FailedError, UserError
    from pipeline.evaluate.results import read_rows
    from pipeline.formats.condensed_reader import CondensedDataset, load_condensed
    from pipeline.formats.condensed_writer import save_condensed
    from pipeline.formats.run_folder import RunFolder
    from pipeline.storage.settings import load_config

__all__ = [
    "CondensedDataset",
    "FailedError",
    "RunConfig",
    "RunFolder",
    "UserError",
    "load_condensed",
    "load_config",
    "load_test",
    "preset",
    "read_rows",
    "save_condensed",
    "with_settings",
]

DISTRIBUTION = "m3d-condense"
"""The project that this package belongs to; there are others of its name."""

_MODULES = {
    "CondensedDataset": "pipeline.formats.condensed_reader",
    "FailedError": "pipeline.errors",
    "RunConfig": "pipeline.config.run_config",
    "RunFolder": "pipeline.formats.run_folder",
    "UserError": "pipeline.errors",
    "load_condensed": "pipeline.formats.condensed_reader",
    "load_config": "pipeline.storage.settings",
    "load_test": "pipeline.data.prepared_dataset",
    "preset": "pipeline.config.presets",
    "read_rows": "pipeline.evaluate.results",
    "save_condensed": "pipeline.formats.condensed_writer",
    "with_settings": "pipeline.config.parsing",
}
"""Where each public name is defined; the module is imported when the name is first used."""


def _require_our_m3d() -> None:
    # "m3d" and "pipeline" are also names of other people's packages on the index.
    spec = importlib.util.find_spec("m3d")
    home = Path(__file__).resolve().parent.parent
    if spec is None or spec.origin is None or Path(spec.origin).resolve().parent.parent != home:
        where = "nowhere" if spec is None else spec.origin
        raise ImportError(
            f"pipeline needs the m3d package beside it in {home}, found {where}: pip install m3d-condense, and uninstall m3d"
        )


_require_our_m3d()


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'pipeline' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
