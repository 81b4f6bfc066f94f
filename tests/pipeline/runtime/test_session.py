"""The connection to Ray, without a Ray."""

import sys

import pytest

from pipeline.config.run_config import Resources
from pipeline.runtime import session


def test_sigterm_while_ray_starts_is_an_interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    for name in session.MALLOC:
        monkeypatch.setenv(name, session.MALLOC[name])
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.init", lambda **_: sys.exit(15))  # as its own handler of SIGTERM does
    with pytest.raises(KeyboardInterrupt):
        session.start(Resources())
