"""A packed data set, and what every test here leaves as it was."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pipeline.support.runs import prepared, small_config
from tests.reproduce import pack


@pytest.fixture(autouse=True)
def sigterm() -> Iterator[None]:
    """The programs treat SIGTERM like Ctrl-C."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four digits, packed in more than ten parts."""
    monkeypatch.setattr(pack, "PART_BYTES", 4_000)
    assert pack.pack(prepared(small_config(), tmp_path), tmp_path / "parts") > 10
    return tmp_path / "parts"
