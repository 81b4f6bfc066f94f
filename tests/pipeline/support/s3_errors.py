"""Sends requests through the proxy, and checks the messages of refused ones."""

from collections.abc import Callable

import pytest

from pipeline.config.storage import Storage
from pipeline.errors import UserError
from pipeline.storage import s3
from tests.pipeline.support.s3_service import SECRET, Proxy


def through(monkeypatch: pytest.MonkeyPatch, proxy: Proxy, attempts: int = 8, timeout_s: float = 30.0) -> None:
    """Sends the requests of this process through the proxy."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
    s3.use(Storage(attempts=attempts, timeout_s=timeout_s))


def refusal(operation: Callable[[], object], kind: type[Exception] = UserError) -> str:
    """The one-line message with which an operation is refused; it never contains a secret."""
    with pytest.raises(kind) as caught:
        operation()
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert SECRET not in message
    return message
