"""Opens sources and asks them for what tests compare."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.run_config import Data
from pipeline.data.sources import SourceIndex, open_source
from pipeline.errors import UserError


def index_of(source: Any, path: Path | str | None, **settings: Any) -> SourceIndex:
    """The index of a source."""
    return open_source(Data(source=source, path=None if path is None else str(path), **settings)).index()


def read_all(source: Any, path: Path | None, split: str = "train", labels: Sequence[int] | None = None) -> list[Any]:
    """The items of some classes of a source, in its order. Defaults to all classes."""
    opened = open_source(Data(source=source, path=None if path is None else str(path)))
    return list(opened.read(split, range(len(opened.index().class_names)) if labels is None else labels))


def refusal(source: Any, path: Path | str | None, **settings: Any) -> str:
    """The one-line message with which a source is refused."""
    with pytest.raises(UserError) as caught:
        index_of(source, path, **settings)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)
