"""The distributed pipeline: sources -> class shards -> condensed shards -> evaluation -> report.

``load_condensed`` is the one name that a consumer of a condensed set needs; it works without Ray.
"""

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.formats.condensed_reader import CondensedDataset, load_condensed

__all__ = ["CondensedDataset", "load_condensed"]


def _refuse_a_stranger() -> None:
    # "m3d" and "pipeline" are also names of other people's packages on the index.
    found = importlib.util.find_spec("m3d")
    home = Path(__file__).resolve().parent.parent
    if found is None or found.origin is None or Path(found.origin).resolve().parent.parent != home:
        where = "nowhere" if found is None else found.origin
        raise ImportError(
            f"pipeline needs the m3d package beside it in {home}, found {where}: pip install m3d-condense, and uninstall m3d"
        )


_refuse_a_stranger()


def __getattr__(name: str) -> Any:
    if name in __all__:
        from pipeline.formats import condensed_reader

        return getattr(condensed_reader, name)
    raise AttributeError(f"module 'pipeline' has no attribute {name!r}")
