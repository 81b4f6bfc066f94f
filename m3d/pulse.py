"""Signs of life of a long computation, by which an observer tells a slow one from one that hangs.

Loops over batches, images and iterations call ``beat``. Outside of ``listening`` this does nothing.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar


def _nobody() -> None:
    pass


_listener: ContextVar[Callable[[], None]] = ContextVar("listener", default=_nobody)


def beat() -> None:
    """Tells the listener that the computation advances. Takes less than a microsecond."""
    _listener.get()()


@contextmanager
def listening(listener: Callable[[], None]) -> Iterator[None]:
    """Calls ``listener`` at every beat of this thread within the block."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)
