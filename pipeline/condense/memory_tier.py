"""The memory tier that keeps the real images of a group during its condensation, decided from sizes at the start."""

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

TierName = Literal["device", "host", "mapped"]
DEVICE_SHARE = 0.5
"""Share of a device's free memory that the real images may take. Activations and weights need the rest."""
HOST_SHARE = 0.4
"""Share of an actor's part of the free host memory that they may take. The page cache of their files needs memory, too."""
GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class MemoryTier:
    """The chosen tier and the sizes in bytes that led to it."""

    name: TierName
    needed: int
    """Real images of the largest group."""
    host: int
    """The actor's part of the free memory of its node."""
    device: int | None
    """The actor's part of the GPU's free memory; None without a GPU."""

    def described(self) -> str:
        """One line for the user."""
        place = {
            "device": "in the GPU's memory" if self.device is not None else "in memory",
            "host": "in host memory, each batch fetched ahead into pinned memory",
            "mapped": "in memory-mapped files, each batch fetched ahead",
        }[self.name]
        free = f"{self.host / GIB:.1f} GiB of host memory" + (
            f" and {self.device / GIB:.1f} GiB of GPU memory" if self.device is not None else ""
        )
        return f"real images: {self.needed / GIB:.2f} GiB in the largest group, held {place} ({free} for an actor)"


def choose_tier(
    needed: int, *, host: int, device: int | None, wanted: TierName | Literal["auto"] = "auto"
) -> MemoryTier:
    """Returns the fastest tier that fits the images of the largest group.

    Args:
        needed: bytes of its real images.
        host: bytes of host memory that the actor may count on.
        device: bytes of GPU memory that it may count on; None without a GPU.
        wanted: the setting ``resources.hold``. Defaults to deciding by size.
    """
    fits_host = needed <= host * HOST_SHARE
    if device is not None and needed <= device * DEVICE_SHARE:
        fastest: TierName = "device"
    elif fits_host:
        fastest = "host" if device is not None else "device"
    else:
        fastest = "mapped"
    return MemoryTier(name=fastest if wanted == "auto" else wanted, needed=needed, host=host, device=device)


def host_memory(groups: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes of memory that are free for this process, on the machine or in its container.

    Args:
        groups: where the kernel shows the control groups of the process.
    """
    free = [psutil.virtual_memory().available]
    for folder, limit, used, cached in (
        (groups, "memory.max", "memory.current", "inactive_file"),
        (groups / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        with contextlib.suppress(OSError, ValueError, KeyError):  # no such container, or one without a limit
            statistics = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
            unreclaimable = int((folder / used).read_text()) - int(statistics[cached])  # the page cache gives way
            free.append(int((folder / limit).read_text()) - unreclaimable)
    return max(0, min(free))
