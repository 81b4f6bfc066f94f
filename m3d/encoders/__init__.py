"""Networks by name: the encoders whose features are matched and the architectures that are evaluated.

Names are imported when they are first used, so that ``names`` and ``check_name`` work without torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from m3d.encoders.catalogue import check_name, names
    from m3d.encoders.network import Network
    from m3d.encoders.registry import architecture, build

__all__ = ["Network", "architecture", "build", "check_name", "names"]

_MODULES = {
    "Network": "network",
    "architecture": "registry",
    "build": "registry",
    "check_name": "catalogue",
    "names": "catalogue",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
