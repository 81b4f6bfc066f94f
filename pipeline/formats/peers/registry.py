"""Formats of peers by the name that selects them on the command line."""

from pipeline.config.run_config import Data
from pipeline.formats.peers import dc, idc, mtt, ncfm
from pipeline.formats.peers.peer_format import Moments, PeerFormat

FORMATS: dict[str, PeerFormat] = {"idc": idc.FORMAT, "dc": dc.FORMAT, "mtt": mtt.FORMAT, "ncfm": ncfm.FORMAT}
NORMALISED = tuple(name for name, peer in FORMATS.items() if peer.moments is not None)
"""Formats whose images are normalised."""


def published_moments(layout: str, data: Data) -> Moments | None:
    """Returns the moments that the published code of a normalised format uses for a data set, or None if unknown."""
    moments = FORMATS[layout].moments
    return None if moments is None else moments(data)
