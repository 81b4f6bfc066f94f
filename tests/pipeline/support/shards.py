"""Class shards of a folder of images, made in this process and read by plain pyarrow."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.config.run_config import Data
from pipeline.data.shard_builder import make_shards
from pipeline.data.shard_manifest import PreparedManifest, finish
from pipeline.data.shard_plan import ShardPlan, plan_shards


def plan_of(root: Path, into: Path | None = None, **settings: Any) -> ShardPlan:
    """The plan for a folder of images at their own size."""
    data = Data(**{"source": "image_folder", "path": str(root), "image_size": 12, **settings})
    return plan_shards(data, str(into or root.parent / "cache"))


def finished(plan: ShardPlan) -> PreparedManifest:
    """The manifest after all shards were written."""
    make_shards(plan, range(len(plan.names)))
    return finish(plan)


def table(plan: ShardPlan, split: str, label: int) -> tuple[np.ndarray, list[str]]:
    """Images and paths of a shard, read by plain pyarrow."""
    shard = pa.ipc.open_file(f"{plan.folder}/{split}-{label:05d}.arrow").read_all()
    return shard.column("image").combine_chunks().to_numpy_ndarray(), shard.column("path").to_pylist()
