"""Small runs on real digits, for the tests of the stages."""

from pathlib import Path
from typing import Any

import torch

from m3d import Augment, Condense, Encoder
from m3d.backend.execution import Execution
from pipeline.condense.manifest import identity, new_record, shard_metadata
from pipeline.condense.task import GroupTask
from pipeline.config.evaluate import Evaluate
from pipeline.config.parsing import with_settings
from pipeline.config.run_config import Data, Resources, RunConfig
from pipeline.data.prepared_dataset import PreparedDataset
from pipeline.data.shard_builder import make_shards
from pipeline.data.shard_manifest import finish
from pipeline.data.shard_plan import plan_shards
from pipeline.formats.condensed_reader import load_condensed
from pipeline.formats.run_folder import RunFolder
from pipeline.runtime.placement import Placement

EXECUTION = Execution(precision="float32", compiled=False, real_block=64, synthetic_block=64)
"""How the small runs compute a step in tests without an actor."""


def small_config(*settings: str, **condense: Any) -> RunConfig:
    """Four digits at 8 px through a narrow ConvNet-2: about a millisecond an iteration and class."""
    schedule: dict[str, Any] = {"iterations": 40, "batch_real": 16, "log_every": 10, "precision": "float32", **condense}
    base = RunConfig(
        data=Data(source="digits", image_size=8, classes=("0", "1", "2", "3")),
        augment=Augment(),
        encoder=Encoder(name="convnet2", width=8),
        condense=Condense(**schedule),
        evaluate=Evaluate(epochs=5, seeds=2, flip=False, architectures=("convnet1",)),
        resources=Resources(actors=2, cpus_per_actor=0.5, classes_per_group=2),
    )
    return with_settings(base, settings)


def prepared(config: RunConfig, folder: Path) -> PreparedDataset:
    """The class shards of a run, written in this process."""
    plan = plan_shards(config.data, str(folder / "class-shards"))
    make_shards(plan, range(len(plan.names)))
    finish(plan)
    return PreparedDataset(plan.folder, config.data)


def placement_of(config: RunConfig, actors: int = 2) -> Placement:
    """A placement with two classes per group."""
    return Placement(actors=actors, cpus_per_actor=0.5, gpus_per_actor=0, threads=1, groups=((0, 1), (2, 3)))


def task_of(config: RunConfig, out: Path, dataset: PreparedDataset) -> GroupTask:
    """The task of a worker."""
    placement = placement_of(config)
    record = new_record(config, dataset, placement)
    return GroupTask(
        config=config,
        folder=RunFolder.at(out),
        class_shards=dataset.folder,
        groups=placement.groups,
        identity=identity(record),
        threads=1,
        metadata=shard_metadata(config, dataset, record),
        report_every_s=0.1,
    )


def condensed_bytes(out: Path) -> list[bytes]:
    """The bytes of the committed shards."""
    return [path.read_bytes() for path in sorted((out / "condensed").glob("shard-*.arrow"))]


def condensed_images(out: Path) -> torch.Tensor:
    """The committed images."""
    return load_condensed(str(out), decode=False, normalise=False).images
