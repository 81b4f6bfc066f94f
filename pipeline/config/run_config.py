"""RunConfig: everything a run depends on. ``pipeline.config.parsing`` reads it from files and from ``--set KEY=VALUE``."""

from dataclasses import dataclass, field, fields
from typing import Literal

from m3d.config import (
    Augment,
    Condense,
    ConfigError,
    Encoder,
    Kernel,
    Method,
    at_least,
    check,
    check_choices,
    positive,
)
from m3d.training.settings import MOST_NETWORKS, WholeTrain
from pipeline.config.evaluate import Evaluate
from pipeline.config.location import Location
from pipeline.config.report import ReportSettings
from pipeline.config.sources import SourceKind
from pipeline.config.storage import Storage, scheme_of
from pipeline.config.tune import TuneSettings
from pipeline.errors import repeated

LONGEST_NAME = 200
"""Most characters of a name or a licence of data."""


@dataclass(frozen=True, kw_only=True)
class Data:
    """Where the images come from and how they are prepared."""

    source: SourceKind = "digits"
    """Kind of the source; see docs/data.md."""
    name: str | None = None
    """Name of the data, which the condensed set carries. torchvision needs MNIST, FashionMNIST, SVHN, CIFAR10 or CIFAR100."""
    licence: str | None = None
    """Licence of the data, such as CC-BY-4.0, which the condensed set carries."""
    path: Location | None = None
    """Folder of the data, local or s3://BUCKET/PREFIX. For torchvision, its root folder."""
    image_size: int = 32
    """Side of the prepared images in pixels. The shorter side is resized to it, then the centre is cropped."""
    channels: int | None = None
    """Number of channels, 1 or 3. Defaults to 1 if all images are grey; of a large source a sample is looked at."""
    classes: tuple[str, ...] | None = None
    """Names or WordNet ids of the classes to use, in the order of their labels. Defaults to all classes."""
    subset: str | None = None
    """Name of a published list of ImageNet classes, instead of data.classes; see docs/scale.md."""
    synsets: Location | None = None
    """File with a line `wnid name` or `wnid number name` per class: the names of the classes and the meaning of integer labels."""
    image_column: str | None = None
    """Image column of data.source=parquet. Defaults to image or img, else the only column that fits."""
    label_column: str | None = None
    """Label column of data.source=parquet, or key of its folders. Defaults to label or a similar name."""
    cache: Location | None = None
    """Folder of the class shards. Defaults to OUT/class-shards."""
    disk_cache: Location | None = None
    """Local folder for copies of class shards stored in a bucket. Defaults to a folder inside the temporary folder."""
    disk_cache_gib: float = 50.0
    """Disk space in GiB for those copies on a node. The oldest are deleted first; 0 keeps none."""
    download: bool = False
    """Whether torchvision downloads missing files."""
    on_bad_image: Literal["fail", "skip"] = "fail"
    """Reaction to an image that cannot be decoded. fail ends the run; skip leaves the image out and lists it."""
    test_fraction: float = 0.2
    """Fraction of every class that becomes the test split, if the source has none."""
    validation_fraction: float = 0.0
    """Fraction of every class's training images that is kept out for validation; 0 condenses all of them."""
    split_seed: int = 0
    """Random seed of both splits."""

    def __post_init__(self) -> None:
        check_choices(self, "data")
        check("data.image_size", self.image_size, 4 <= self.image_size <= 4096, "an integer from 4 to 4096")
        check("data.channels", self.channels, self.channels in (None, 1, 3), "1, 3 or null")
        check("data.test_fraction", self.test_fraction, 0 < self.test_fraction < 1, "a number above 0, below 1")
        valid = 0 <= self.validation_fraction < 1
        check("data.validation_fraction", self.validation_fraction, valid, "a number from 0, below 1")
        check("data.disk_cache_gib", self.disk_cache_gib, 0 <= self.disk_cache_gib < 1e9, "GiB, 0 or more")
        local = self.disk_cache is None or scheme_of(self.disk_cache) is None
        check("data.disk_cache", self.disk_cache, local, "a local folder of every node")
        for name in ("image_column", "label_column"):
            value = getattr(self, name)
            check(f"data.{name}", value, value is None or self.source == "parquet", "null unless data.source=parquet")
        for name in ("name", "licence"):
            value = getattr(self, name)
            valid = value is None or (0 < len(value) <= LONGEST_NAME and value.isprintable() and not value.isspace())
            check(f"data.{name}", value, valid, f"printable text of at most {LONGEST_NAME} characters, or null")
        if self.subset is not None and self.classes is not None:
            raise ConfigError("data.subset, data.classes: both given; set one of them to null")
        if self.classes is not None:
            check("data.classes", list(self.classes), len(self.classes) > 0, "at least one class name, or null for all")
            twice = repeated(self.classes)
            check("data.classes", twice, not twice, "every class once")


@dataclass(frozen=True, kw_only=True)
class Resources:
    """Where the work runs, and how failures are handled. Nothing here changes a class's random draws."""

    address: str | None = None
    """Address of a Ray cluster to join. Defaults to the variable RAY_ADDRESS; without it, the run starts its own Ray."""
    actors: int | None = None
    """Number of actors. Defaults to one per GPU or, without GPUs, to as many as the CPUs allow."""
    cpus_per_actor: float | None = None
    """CPUs of an actor. Defaults to a number that suits the nodes."""
    gpus_per_actor: float | None = None
    """GPUs of an actor: an integer or 1/k. Defaults to 1 if there are GPUs."""
    classes_per_group: int | None = None
    """Number of classes condensed together. Defaults to as many as spread evenly over the actors and fit in memory."""
    hold: Literal["auto", "device", "host", "mapped"] = "auto"
    """Where an actor keeps its real images. auto decides by their size; device means host memory if there is no GPU."""
    wait_s: float = 0.0
    """Seconds to wait for a node on which an actor fits."""
    attempts: int = 3
    """Attempts at a group, a process's start, a network, a pretraining or a trial before it counts as failed."""
    stall_s: float = 900.0
    """Seconds without a sign of progress after which a process counts as dead. Until the first it has at least 60."""
    checkpoint_every_s: float = 10.0
    """Seconds between the checkpoints of a group or a trial."""
    checkpoint_every: int | None = None
    """Iterations between the checkpoints of a group, instead of seconds."""

    def __post_init__(self) -> None:
        for name, most in (("actors", 100_000), ("classes_per_group", 10**6), ("checkpoint_every", 2**31 - 1)):
            if getattr(self, name) is not None:
                at_least(f"resources.{name}", getattr(self, name), 1, most)
        at_least("resources.attempts", self.attempts, 1, 1000)
        if self.address is not None and "@" in self.address:
            raise ConfigError("resources.address: given an address that contains a user name; give HOST:PORT")
        positive("resources.stall_s", self.stall_s)
        positive("resources.checkpoint_every_s", self.checkpoint_every_s)
        check("resources.wait_s", self.wait_s, 0 <= self.wait_s < 1e9, "seconds, 0 or more")
        if self.cpus_per_actor is not None:
            positive("resources.cpus_per_actor", self.cpus_per_actor)
        if self.gpus_per_actor is not None:
            gpus = self.gpus_per_actor
            # Ray counts in ten-thousandths.
            check("resources.gpus_per_actor", gpus, gpus == 0 or 1e-4 <= gpus < 1e6, "0, or 0.0001 and more")
            # Ray hangs on shares that do not divide a GPU: the cluster adds them up, the node cannot.
            divides = gpus == int(gpus) or (0 < gpus < 1 and abs(1 / gpus - round(1 / gpus)) < 1e-6)
            check("resources.gpus_per_actor", gpus, divides, "an integer, or 1/k such as 0.5 or 0.25")


@dataclass(frozen=True, kw_only=True)
class Pretrain:
    """Training of networks on the full training set. Nothing here changes a condensed set."""

    architecture: str = "convnet3"
    """Network to train, by name, as in evaluate.architectures."""
    trajectories: int = 1
    """Number of networks, trained one after another with seeds 0, 1, ... The snapshots of each are a trajectory."""
    epochs: int = 15
    """Epochs of every network, over which the schedule is spread."""
    batch: int = 128
    """Images per step, summed over all workers; the number of workers changes rounding only."""
    learning_rate: float = 0.05
    """Highest learning rate of the schedule."""
    momentum: float = 0.9
    """Momentum of SGD."""
    weight_decay: float = 5e-4
    """Weight decay of SGD, on all weights."""
    schedule: Literal["cosine", "steps"] = "cosine"
    """Decay of the learning rate. cosine falls to 0 along half a cosine; steps multiplies by 0.2 after 1/2, 3/4 and 7/8."""
    warmup: float = 0.1
    """Fraction of all steps in which the learning rate rises linearly."""
    augment: str = "crop_flip"
    """Operations on every training image at DSA's strengths, joined by underscores as in augment.strategy; or none."""
    snapshot_every: int = 5
    """Epochs between two snapshots. The first and the last weights are always stored."""
    precision: Literal["auto", "float32", "tf32", "bfloat16"] = "auto"
    """Precision of the products, as in condense.precision. Weights and their steps are float32."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Whether the network is compiled. auto compiles on a CPU if the training is long enough to gain from it."""
    workers: int | None = None
    """Number of processes that share every batch. Defaults to one per GPU or, without GPUs, one per node."""
    cpus_per_worker: float | None = None
    """CPUs, and therefore threads, of a worker. Defaults to up to 4 beside a GPU or, without GPUs, all of a node's."""
    gpus_per_worker: float | None = None
    """GPUs of a worker, 0 or 1. Defaults to 1 if there are GPUs."""
    report_every: int = 1
    """Epochs between two checkpoints. All workers wait for each checkpoint, so raise it if epochs are short."""

    def __post_init__(self) -> None:
        check_choices(self, "pretrain")
        at_least("pretrain.trajectories", self.trajectories, 1, MOST_NETWORKS)
        for name in ("snapshot_every", "report_every"):
            at_least(f"pretrain.{name}", getattr(self, name), 1)
        if self.workers is not None:
            at_least("pretrain.workers", self.workers, 1, 100_000)
            allowed = f"an integer from 1 to pretrain.batch, which is {self.batch}"
            check("pretrain.workers", self.workers, self.workers <= self.batch, allowed)
        if self.cpus_per_worker is not None:
            positive("pretrain.cpus_per_worker", self.cpus_per_worker)
        if self.gpus_per_worker is not None:
            check("pretrain.gpus_per_worker", self.gpus_per_worker, self.gpus_per_worker in (0, 1), "0 or 1")
        _ = self.training  # checks the rest

    @property
    def training(self) -> WholeTrain:
        """The settings of one network's training."""
        try:
            augment = Augment(strategy=self.augment)
        except ConfigError as error:
            raise error.named("augment") from None
        settings = {setting.name: getattr(self, setting.name) for setting in fields(WholeTrain)}
        return WholeTrain(**{**settings, "augment": augment})


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """A complete run. ``OUT/config.json`` stores it under ``config``."""

    seed: int = 0
    """Random seed. Does not affect data splits or evaluation networks."""
    data: Data = field(default_factory=Data)
    kernel: Kernel = field(default_factory=Kernel)
    augment: Augment = field(default_factory=Augment)
    encoder: Encoder = field(default_factory=Encoder)
    condense: Condense = field(default_factory=Condense)
    evaluate: Evaluate = field(default_factory=Evaluate)
    pretrain: Pretrain = field(default_factory=Pretrain)
    resources: Resources = field(default_factory=Resources)
    storage: Storage = field(default_factory=Storage)
    tune: TuneSettings = field(default_factory=TuneSettings)
    report: ReportSettings = field(default_factory=ReportSettings)

    @property
    def method(self) -> Method:
        """The settings of the condensation itself."""
        return Method(kernel=self.kernel, augment=self.augment, encoder=self.encoder, condense=self.condense)

    def __post_init__(self) -> None:
        check("seed", self.seed, 0 <= self.seed < 2**63, "an integer from 0, below 2**63")
