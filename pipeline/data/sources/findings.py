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
    examples: tuple[str, ...] = ()
    """Places of the first ones in the source, at most ``EXAMPLES``."""


@dataclass(frozen=True, kw_only=True)
class Findings:
    """How a source was read. ``prepare`` prints it, and the manifest of the class shards keeps it."""

    found: int = 0
    """Files, members of tars or rows that were found."""
    taken: int = 0
    """Those of them that are read as images."""
    left_out: tuple[LeftOut, ...] = ()
    """The others, by reason, in the order of the reasons."""
    splits: Mapping[str, str] = field(default_factory=dict)
    """How each split was recognised, such as ``folder train``, by the name of the split."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Which column is read as what, such as ``image`` to ``img``; empty if the source has no columns."""
