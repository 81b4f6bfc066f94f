"""What a worker needs to know about a run."""

from dataclasses import dataclass

from m3d.backend.execution import Execution
from pipeline.condense.manifest import ShardMetadata
from pipeline.config.run_config import RunConfig
from pipeline.formats.run_folder import RunFolder


@dataclass(frozen=True, kw_only=True)
class GroupTask:
    """Everything that a worker needs besides the images, which it reads from the class shards."""

    config: RunConfig
    folder: RunFolder
    class_shards: str
    """Folder of the class shards."""
    groups: tuple[tuple[int, ...], ...]
    """Labels of the classes of every group."""
    identity: str
    """Checksum of everything that a group's bytes depend on."""
    threads: int
    """Torch's CPU threads in an actor."""
    metadata: ShardMetadata
    """Metadata of every shard."""
    execution: Execution | None = None
    """How a step is computed, if the run has decided it already."""
    classes_per_actor: int = 1
    """Classes that one actor condenses in the run, group after group. Compiling must pay for this much work."""
    gpu_share: float = 1.0
    """Share of a GPU's memory that an actor may use."""
    actors_per_node: int = 1
    """Most actors on one node. They share its memory."""
    gpu_memory: float = 0.0
    """Bytes of the smallest GPU of the cluster, or 0 if unknown. It bounds the blocks, which all devices use."""
    report_every_s: float = 1.0
    """Seconds between two progress events of a group."""
    run: str = ""
    """Name of the run in logs."""
