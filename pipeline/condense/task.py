"""What a worker is told."""

from dataclasses import dataclass
from typing import Any

from m3d.backend.execution import Execution
from pipeline.config.run_config import RunConfig
from pipeline.formats.run_folder import RunFolder


@dataclass(frozen=True, kw_only=True)
class GroupTask:
    """Everything that a worker must know; the classes themselves it reads from their shards."""

    config: RunConfig
    folder: RunFolder
    class_shards: str
    """Folder of the class shards."""
    groups: tuple[tuple[int, ...], ...]
    identity: str
    threads: int
    metadata: dict[str, Any]
    """Goes into every shard."""
    execution: Execution | None = None
    """How the step is computed, where an earlier call has decided it."""
    share: int = 1
    """Classes that one actor condenses, one group after another: how much work compiling must pay for."""
    gpu_share: float = 1.0
    """Part of a GPU's memory that an actor may use."""
    neighbours: int = 1
    """Actors that may share a node with this one, itself counted: they share its memory."""
    gpu_memory: float = 0.0
    """Bytes of the smallest GPU of the cluster, where that is known: blocks that suit one device are the run's."""
    report_every_s: float = 1.0
    """Seconds between two progress events of a group."""
    run: str = ""
    """Names the run in logs."""
