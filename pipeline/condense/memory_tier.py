"""Where the real images of a group are held while it is condensed: decided from sizes, before the run begins."""

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

Place = Literal["device", "host", "mapped"]
DEVICE_SHARE = 0.5
"""Part of a device's free memory that the real images may take; activations and weights need the rest."""
HOST_SHARE = 0.4
"""Part of an actor's share of the free host memory that they may take; the page cache of their files needs room as well."""
GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class Room:
    """A decision and the sizes behind it, in bytes."""

    place: Place
    needed: int
    host: int
    """An actor's share of the free memory of its node."""
    device: int | None
    """Its share of the GPU's free memory; None without a GPU."""

    def told(self) -> str:
        """One line for the person."""
        held = {
            "device": "in the GPU's memory" if self.device is not None else "in memory",
            "host": "in host memory, each batch fetched ahead into pinned memory",
            "mapped": "in memory-mapped files, each batch fetched ahead",
        }[self.place]
        free = f"{self.host / GIB:.1f} GiB of host memory" + (
            f" and {self.device / GIB:.1f} GiB of GPU memory" if self.device is not None else ""
        )
        return f"real images: {self.needed / GIB:.2f} GiB in the largest group, held {held} ({free} for an actor)"


def host_memory(groups: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes of memory that are free for this process: of the machine, or of the container that it runs in."""
    free = [psutil.virtual_memory().available]
    for folder, limit, used, cached in (
        (groups, "memory.max", "memory.current", "inactive_file"),
        (groups / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        with contextlib.suppress(OSError, ValueError, KeyError):  # no such container, or one without a limit
            told = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
            held = int((folder / used).read_text()) - int(told[cached])  # the page cache gives way
            free.append(int((folder / limit).read_text()) - held)
    return max(0, min(free))


def choose_room(needed: int, *, host: int, device: int | None, wish: Place | Literal["auto"] = "auto") -> Room:
    """The fastest place with room for the images of the largest group.

    Args:
        needed: bytes of its real images.
        host: bytes of host memory that the actor may count on.
        device: bytes of GPU memory that it may count on; None without a GPU.
        wish: ``resources.hold``.
    """
    fits_host = needed <= host * HOST_SHARE
    if device is not None and needed <= device * DEVICE_SHARE:
        place: Place = "device"
    elif fits_host:
        place = "host" if device is not None else "device"
    else:
        place = "mapped"
    return Room(place=place if wish == "auto" else wish, needed=needed, host=host, device=device)
