"""What every test here leaves as it was."""

import signal
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def sigterm() -> Iterator[None]:
    """The programs treat SIGTERM like Ctrl-C."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)
