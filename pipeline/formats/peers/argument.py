"""How the file of a peer is named on the command line: ``FILE.pt:LAYOUT[:factor=N]``."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pipeline import storage
from pipeline.errors import UserError, nearest
from pipeline.formats.peers.registry import FORMATS

OPTIONS = ("factor", "mean", "std")
FACTORS = range(1, 17)
_SUFFIXES = "|".join(sorted({re.escape(suffix) for peer in FORMATS.values() for suffix in peer.suffixes}))


@dataclass(frozen=True, kw_only=True)
class PeerFile:
    """A file as it was named on the command line."""

    path: str
    """Absolute path, or a URL."""
    layout: str
    """Name of its format."""
    factor: int = 1
    """Every stored image consists of ``factor`` x ``factor`` tiles."""
    mean: tuple[float, ...] | None = None
    """Mean that its images are normalised with. Defaults to that of the published code, or of the data."""
    std: tuple[float, ...] | None = None
    """Standard deviation that its images are normalised with. Defaults like ``mean``."""


def is_peer(argument: str) -> bool:
    """Whether an argument names a file rather than a folder."""
    return re.search(rf"(?:{_SUFFIXES})(?::|$)", argument) is not None


def parse(argument: str) -> PeerFile:
    """Returns the file that ``FILE.pt:LAYOUT`` names, with options such as ``:factor=2`` or ``:mean=0.5/0.5/0.5:std=0.2/0.2/0.2``.

    Raises:
        UserError: the layout or an option is missing, unknown or out of range.
    """
    parts = re.fullmatch(rf"(.+?(?:{_SUFFIXES}))(?::(.*))?", argument)
    if parts is None or not parts[2]:
        raise UserError(
            f"{argument}: names no layout; append one, such as {argument.rstrip(':')}:idc:factor=2 (allowed: {', '.join(FORMATS)})"
        )
    layout, *options = parts[2].split(":")
    if layout not in FORMATS:
        raise UserError(f"{argument}: layout {layout!r}, allowed: {', '.join(FORMATS)}{nearest(layout, FORMATS)}")
    file = PeerFile(path=storage.absolute(parts[1]), layout=layout)
    for option in options:
        file = _with_option(file, option, argument)
    numbers = (*(file.mean or ()), *(file.std or ()))
    if (
        file.factor not in FACTORS
        or any(value <= 0 for value in file.std or ())
        or not all(map(math.isfinite, numbers))
    ):
        raise UserError(f"{argument}: factor is an integer from 1 to 16, mean is finite, std is finite and above 0")
    return file


def _with_option(file: PeerFile, option: str, argument: str) -> PeerFile:
    name, equals, text = option.partition("=")
    if name not in OPTIONS or not equals:
        raise UserError(f"{argument}: option {option!r}, allowed: factor=N, mean=A/B/C and std=A/B/C")
    try:
        value: int | Sequence[float] = int(text) if name == "factor" else tuple(float(part) for part in text.split("/"))
    except ValueError:
        raise UserError(f"{argument}: {option!r} is not a number; write factor=2, or mean=0.5/0.5/0.5") from None
    return replace(file, **{name: value})
