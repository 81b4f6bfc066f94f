"""Condensed sets in the files of other projects, named like ``FILE.pt:idc:factor=2``. No Ray here.

One file per format: ``idc``, ``ncfm``, ``dc`` and ``mtt`` each read and write it. ``registry`` lists them, ``argument``
parses the name, and ``reader`` checks, decodes and normalises what a format reads.
"""

from pipeline.formats.peers.argument import PeerFile, is_peer, parse
from pipeline.formats.peers.reader import PeerSet, StoredSet, read, read_stored
from pipeline.formats.peers.registry import FORMATS, NORMALISED, published_moments

__all__ = [
    "FORMATS",
    "NORMALISED",
    "PeerFile",
    "PeerSet",
    "StoredSet",
    "is_peer",
    "parse",
    "published_moments",
    "read",
    "read_stored",
]
