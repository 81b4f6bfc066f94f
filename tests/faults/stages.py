"""The stages that are disturbed: their commands on small data, where they start from, and what a trial may kill."""

import json
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

CHECKPOINT_EVERY = 40
"""Iterations between two checkpoints of a group, and therefore the most that a kill may make it repeat."""
DATA = {"data.image_size": 8}
PREPARE = {"data.image_size": 64}
"""Larger images, so that the decoding takes longer than the start of a worker."""
CONDENSE = {
    **DATA,
    "encoder.name": "convnet2",
    "encoder.width": 8,
    "condense.iterations": 400,
    "condense.batch_real": 32,
    "condense.log_every": 10,
    "condense.precision": "float32",
    "resources.classes_per_group": 3,
    "resources.actors": 2,
    "resources.cpus_per_actor": 0.5,
    "resources.checkpoint_every": CHECKPOINT_EVERY,
}
# Each class is a group of its own, so that there is more to commit.
COMMIT = {**CONDENSE, "condense.iterations": 20, "resources.classes_per_group": 1}
# More networks than half the CPUs, so that each has one thread on any small machine, with its own Ray or on a cluster.
EVALUATE = {"evaluate.architectures": ["convnet1"], "evaluate.seeds": 4, "evaluate.epochs": 150}
PRETRAIN = {
    **DATA,
    "pretrain.architecture": "convnet1",
    "pretrain.trajectories": 2,
    "pretrain.epochs": 8,
    "pretrain.snapshot_every": 2,
    "pretrain.report_every": 1,
    "pretrain.workers": 1,
    "pretrain.cpus_per_worker": 1,
}
TUNE = {
    **CONDENSE,
    "tune.classes": 4,
    "tune.iterations": 60,
    "tune.rungs": 2,
    "tune.seeds": 2,
    "tune.epochs": 20,
    "tune.concurrent": 1,  # proposals follow from the records alone if trials run one at a time
    "resources.cpus_per_actor": 1,
    "resources.checkpoint_every_s": 0.2,
}
TRIALS = 3
"""Trials of the search."""

KILL, INTERRUPT = "driver killed", "driver interrupted"
WORKER, ACTOR, NODE = "worker", "actor", "node"
RAYLET, GCS = "raylet", "GCS"
VICTIMS = (KILL, INTERRUPT, WORKER, ACTOR, NODE, RAYLET, GCS)
"""A worker is the process of a task, an actor that of an actor of any kind, a node one of two in a cluster that the run
joins. Raylet and GCS are those of the Ray that the run has started for itself."""
EVERY_RUN = (KILL, INTERRUPT)
EVERY_RAY = (*EVERY_RUN, RAYLET, GCS)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A command, and what may be killed while it runs."""

    name: str
    command: str
    """Command of ``python -m pipeline``."""
    settings: Mapping[str, object]
    victims: tuple[str, ...]
    options: tuple[str, ...] = ()
    after: str | None = None
    """Stage with whose finished folder this one starts; None starts with an empty folder."""
    takes_run: bool = False
    """Whether the command names the folder without ``--out`` and takes the configuration from it."""
    verified: bool = True
    """Whether ``verify`` can check the folder."""
    own_shards: bool = False
    """Whether the class shards are written to the folder itself, instead of being read from those of ``prepare``."""
    reads_shards: bool = True
    """Whether it reads class shards. Their place is outside of the run's folder, so every command has to name it."""

    def arguments(self, out: Path, shards: Path) -> list[str]:
        """The command line that starts the stage, and that resumes it.

        Args:
            out: folder of the run.
            shards: folder of finished class shards.
        """
        cache = {} if self.own_shards or not self.reads_shards else {"data.cache": str(shards)}
        settings = [f"{key}={json.dumps(value)}" for key, value in {**self.settings, **cache}.items()]
        flags = [part for setting in settings for part in ("--set", setting)]
        start = [sys.executable, "-m", "pipeline", self.command]
        if self.takes_run:
            return [*start, str(out), *flags, *self.options]
        return [*start, "--preset", "digits_ipc1", *flags, *self.options, "--out", str(out)]


STAGES = {
    stage.name: stage
    for stage in (
        Stage(
            name="prepare",
            command="prepare",
            settings=PREPARE,
            victims=(*EVERY_RAY, WORKER, NODE),
            own_shards=True,
            verified=False,
        ),
        Stage(name="condense", command="condense", settings=CONDENSE, victims=(*EVERY_RAY, ACTOR, NODE)),
        Stage(name="commit", command="condense", settings=COMMIT, victims=EVERY_RAY, after="one group per class"),
        Stage(
            name="evaluate",
            command="evaluate",
            settings=EVALUATE,
            options=("--sets", "condensed,random"),
            victims=(*EVERY_RAY, WORKER, NODE),
            after="condense",
            takes_run=True,
        ),
        Stage(
            name="report",
            command="report",
            settings={},
            victims=EVERY_RUN,
            after="evaluate",
            takes_run=True,
            reads_shards=False,
        ),
        Stage(name="pretrain", command="pretrain", settings=PRETRAIN, victims=(*EVERY_RAY, ACTOR, NODE)),
        Stage(
            name="tune",
            command="tune",
            settings=TUNE,
            options=("--trials", str(TRIALS), "--resume"),
            victims=(*EVERY_RAY, WORKER, ACTOR, NODE),
            verified=False,
        ),
    )
}
"""By name, in the order in which a user runs them."""
SHARDS = "class shards"
BASES = {
    stage.name: stage
    for stage in (
        Stage(name=SHARDS, command="prepare", settings=DATA, victims=(), own_shards=True),
        Stage(name="one group per class", command="condense", settings=COMMIT, victims=()),
    )
}
"""Runs that only make what stages read."""


def stage_of(name: str) -> Stage:
    """The stage or base of that name."""
    return STAGES[name] if name in STAGES else BASES[name]


def start_folder(stage: Stage, finished: Path | None, out: Path) -> None:
    """Makes the folder that a stage starts with.

    Args:
        stage: the stage.
        finished: folder of the stage before, which is left as it is.
        out: folder to make; it must not exist.
    """
    if finished is None:
        return
    shutil.copytree(finished, out)
    if stage.name == "commit":
        take_back_commit(out)


def take_back_commit(out: Path) -> None:
    """Turns a condensed run into one whose groups are finished but not committed."""
    for shard in sorted((out / "condensed").glob("shard-*.arrow")):
        shard.rename(out / "checkpoints" / f"group-{shard.stem.removeprefix('shard-')}.shard.arrow")
    shutil.rmtree(out / "condensed")
