"""The folder of a run: the paths of its files, and its record.

OUT/config.json               the configuration and everything resolved from it
OUT/class-shards/             the prepared images, unless data.cache names another place
OUT/checkpoints/              one checkpoint per group of classes, then its finished shard
OUT/snapshots/                the images at some iterations, for the report
OUT/condensed/                the committed condensed set, its manifest written last
OUT/metrics.jsonl             losses and throughput
OUT/events.jsonl              what happened to actors, groups and workers
OUT/tensorboard/              curves of the loss and the throughput
OUT/evaluation.json           accuracies
OUT/evaluation/               confusion matrices that are too large for evaluation.json
OUT/evaluation-partial.json   scores of networks whose row is incomplete
OUT/networks/                 networks that the evaluation is training, and large matrices of those that are scored
OUT/baselines/                images that herding and k-center selected
OUT/feature-network.safetensors   the network in whose features the baselines select
OUT/experts/ARCHITECTURE/     networks that ``pretrain`` trained
OUT/report.html, grid.png     the report, with evolution.webp if there are snapshots
OUT/trackers.json             what MLflow and W&B call the run
OUT/lease.json                the driver that may write to the folder
"""

from dataclasses import dataclass
from pathlib import Path

from pipeline import storage
from pipeline.config.parsing import from_dict
from pipeline.config.run_config import RunConfig
from pipeline.errors import UserError
from pipeline.formats.arrow_schema import MANIFEST
from pipeline.formats.condensed_reader import CondensedManifest, read_manifest
from pipeline.formats.run_record import RunRecord, differing_settings, refuse_another
from pipeline.storage.documents import read_document, write_document


@dataclass(frozen=True)
class RunFolder:
    """Paths and record of one run. The folder of a condensed set without a run works alike: it can be evaluated."""

    path: str
    """Absolute path, or a URL."""

    @classmethod
    def at(cls, path: str | Path) -> "RunFolder":
        """Returns the folder at a path or URL that a user named."""
        return cls(storage.absolute(str(path)))

    def __str__(self) -> str:
        return self.path

    def file(self, *names: str) -> str:
        """Returns the path of a file or folder in this folder."""
        return storage.join(self.path, *names)

    @property
    def config_json(self) -> str:
        """Record of the run."""
        return self.file("config.json")

    @property
    def class_shards(self) -> str:
        """Folder of the class shards, unless ``data.cache`` names another place."""
        return self.file("class-shards")

    @property
    def checkpoints(self) -> str:
        """Folder of the checkpoints and finished shards of the groups."""
        return self.file("checkpoints")

    @property
    def snapshots(self) -> str:
        """Folder of the images at some iterations."""
        return self.file("snapshots")

    @property
    def condensed(self) -> str:
        """Folder of the run's condensed set."""
        return self.file("condensed")

    @property
    def metrics(self) -> str:
        """Log of losses and throughput."""
        return self.file("metrics.jsonl")

    @property
    def events(self) -> str:
        """Log of what happened to actors, groups and workers."""
        return self.file("events.jsonl")

    @property
    def tensorboard(self) -> str:
        """Folder of the curves for TensorBoard."""
        return self.file("tensorboard")

    @property
    def trackers(self) -> str:
        """What MLflow and W&B call the run."""
        return self.file("trackers.json")

    @property
    def evaluation(self) -> str:
        """Rows of accuracies."""
        return self.file("evaluation.json")

    @property
    def matrices(self) -> str:
        """Folder of the confusion matrices that are too large for evaluation.json."""
        return self.file("evaluation")

    @property
    def partial_evaluation(self) -> str:
        """Scores of networks whose row is incomplete."""
        return self.file("evaluation-partial.json")

    @property
    def networks(self) -> str:
        """Folder of networks that the evaluation is training."""
        return self.file("networks")

    @property
    def baselines(self) -> str:
        """Folder of the images that herding and k-center selected."""
        return self.file("baselines")

    @property
    def feature_network(self) -> str:
        """Network in whose features the baselines select."""
        return self.file("feature-network.safetensors")

    @property
    def grid(self) -> str:
        """Picture of the condensed images."""
        return self.file("grid.png")

    @property
    def evolution(self) -> str:
        """Animation of the images from the first snapshot to the condensed set."""
        return self.file("evolution.webp")

    @property
    def report(self) -> str:
        """Page of the report."""
        return self.file("report.html")

    @property
    def experts(self) -> str:
        """Folder of pretrained networks, with a folder per architecture."""
        return self.file("experts")

    def exists(self) -> bool:
        """Whether the folder exists."""
        return storage.exists(self.path)

    def read_record(self) -> RunRecord | None:
        """Returns the content of config.json, or None if there is none. Raises UserError if it is damaged or the folder is a file."""
        try:
            return read_document(RunRecord, self.config_json)
        except FileNotFoundError:
            return None
        except NotADirectoryError:
            raise UserError(f"{self}: is a file, or lies below one; give a folder") from None

    def write_record(self, record: RunRecord) -> None:
        """Writes config.json."""
        write_document(self.config_json, record)

    def read_config(self) -> RunConfig:
        """Returns the configuration of the run. Raises UserError if the folder holds no run."""
        record = self.read_record()
        if record is None:
            what = "holds no run (no config.json)" if self.exists() else "does not exist"
            raise UserError(f"{self}: {what}; give the folder that was --out of `run` or `condense`")
        return from_dict(record, origin=self.config_json)

    def require_same_run(self, record: RunRecord, config: RunConfig) -> None:
        """Raises UserError if the run has other settings than ``config``, and names their keys."""
        refuse_another(self.path, differing_settings(record, config, self.config_json))

    def read_manifest(self) -> CondensedManifest:
        """Returns the manifest of the condensed set. Raises UserError if it is damaged, FileNotFoundError if there is none."""
        return read_manifest(self.condensed)

    def is_committed(self) -> bool:
        """Whether the condensed set is finished and all its shards exist. Raises UserError for a damaged manifest."""
        if not storage.exists(storage.join(self.condensed, MANIFEST)):
            return False
        return all(
            storage.exists(storage.join(self.condensed, entry["file"])) for entry in self.read_manifest()["shards"]
        )
