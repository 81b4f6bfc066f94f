"""What a source found: how many files it takes, which it leaves out and why, and how it recognised splits and columns."""

from collections.abc import Mapping
from dataclasses import dataclass, field

EXAMPLES = 3
"""Names of files that a finding gives as examples, at most."""


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """Files, members of tars or rows that a source does not read, for one reason."""

    reason: str
    """Why, such as ``ending .heic``, ``hidden`` or ``no label``."""
    count: int
    unit: str = "file"
    """What is counted: ``file``, ``folder``, ``tar member`` or ``row``."""
    examples: tuple[str, ...] = ()
    """Places of the first ones in the source, at most ``EXAMPLES``."""


@dataclass(frozen=True, kw_only=True)
class Findings:
    """How a source was read. ``prepare`` prints it, and the manifest of the class shards keeps it."""

    unit: str = "file"
    """What is counted: ``file``, ``tar member``, ``row`` or ``image``."""
    found: int = 0
    """Number of them in the files that are read; a hidden folder counts as a file."""
    taken: int = 0
    """Those of them that are read as images."""
    left_out: tuple[LeftOut, ...] = ()
    """What is left out, by reason, in the order of the reasons: the others of this unit, and what has another unit."""
    splits: Mapping[str, str] = field(default_factory=dict)
    """How each split was recognised, such as ``folder train``, by the name of the split."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Which column is read as what, such as ``image`` to ``img``; empty if the source has no columns."""
