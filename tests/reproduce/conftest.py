"""A packed data set, and the signal handler that every test here restores."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pipeline.support.runs import prepared, small_config
from tests.reproduce import pack


@pytest.fixture(autouse=True)
def sigterm() -> Iterator[None]:
    """Restores the handler of SIGTERM: the programs treat SIGTERM like Ctrl-C."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of four digits, packed in more than ten parts."""
    monkeypatch.setattr(pack, "PART_BYTES", 4_000)
    assert pack.pack(prepared(small_config(), tmp_path), tmp_path / "parts") > 10
    return tmp_path / "parts"
