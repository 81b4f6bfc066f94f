"""Networks by name: the encoders whose features are matched and the architectures that are evaluated."""

from m3d.encoders.network import Network, initialise
from m3d.encoders.registry import architecture, build, check_name, names

__all__ = ["Network", "architecture", "build", "check_name", "initialise", "names"]
