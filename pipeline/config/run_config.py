"""RunConfig: everything that a run depends on. ``pipeline.config.parsing`` reads it from files and ``--set KEY=VALUE``."""

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
from m3d.training.settings import WholeTrain
from pipeline.config.evaluate import Evaluate
from pipeline.config.storage import Storage
from pipeline.config.tune import TuneSettings

SOURCES = ("digits", "parquet", "image_folder", "torchvision", "webdataset")


@dataclass(frozen=True, kw_only=True)
class Data:
    """Where the images come from and how they are prepared."""

    source: Literal["digits", "parquet", "image_folder", "torchvision", "webdataset"] = "digits"
    name: str | None = None
    """torchvision's class: MNIST, FashionMNIST, SVHN, CIFAR10 or CIFAR100."""
    path: str | None = None
    """Folder of the data, local or s3://BUCKET/PREFIX; torchvision's root."""
    image_size: int = 32
    """Side in pixels that every image is brought to: the shorter side is resized, the middle is cut out."""
    channels: int | None = None
    """1 or 3; what the first image has when not given."""
    classes: tuple[str, ...] | None = None
    """Names or WordNet ids of the classes to use, in the order of their labels; all of them when not given."""
    subset: str | None = None
    """Name of a published list of ImageNet classes, in place of data.classes; see docs/scale.md."""
    synsets: str | None = None
    """File of lines `wnid name`, in label order: what the classes are called, and what integer labels mean."""
    cache: str | None = None
    """Folder of the class shards; OUT/class-shards when not given."""
    disk_cache: str | None = None
    """Local folder for copies of class shards that lie in a bucket; one below the temporary folder when not given."""
    disk_cache_gib: float = 50.0
    """GiB that those copies may take on a node; the oldest go first, and 0 keeps none."""
    download: bool = False
    """Let torchvision download what is missing."""
    on_bad_image: Literal["fail", "skip"] = "fail"
    test_fraction: float = 0.2
    """Part of every class that is cut from train where the source has no test split."""
    validation_fraction: float = 0.0
    """Part of every class's training images that is held out for choices; 0 condenses all of them."""
    split_seed: int = 0
    """Of both splits."""

    def __post_init__(self) -> None:
        check("data.image_size", self.image_size, 4 <= self.image_size <= 4096, "an integer from 4 to 4096")
        check("data.channels", self.channels, self.channels in (None, 1, 3), "1, 3 or null")
        check("data.test_fraction", self.test_fraction, 0 < self.test_fraction < 1, "a number above 0, below 1")
        holds = 0 <= self.validation_fraction < 1
        check("data.validation_fraction", self.validation_fraction, holds, "a number from 0, below 1")
        holds = 0 <= self.disk_cache_gib < 1e9
        check("data.disk_cache_gib", self.disk_cache_gib, holds, "GiB, 0 or more")
        local = self.disk_cache is None or "://" not in self.disk_cache
        check("data.disk_cache", self.disk_cache, local, "a local folder of every node")
        if self.subset is not None and self.classes is not None:
            raise ConfigError("data.subset, data.classes: both given; set one of them to null")
        if self.classes is not None:
            check("data.classes", list(self.classes), len(self.classes) > 0, "at least one class name, or null for all")
            twice = {name for name in self.classes if self.classes.count(name) > 1}
            check("data.classes", sorted(twice), not twice, "every class once")


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What runs where. Nothing here changes a class's random draws."""

    address: str | None = None
    """Of a Ray cluster to join; RAY_ADDRESS when not given, else a cluster of the run's own."""
    actors: int | None = None
    """One per GPU, or as many as the CPUs allow, when not given."""
    cpus_per_actor: float | None = None
    gpus_per_actor: float | None = None
    classes_per_group: int | None = None
    """Classes that are condensed together; as many as spread evenly over the actors and fit when not given."""
    hold: Literal["auto", "device", "host", "mapped"] = "auto"
    """Where an actor holds its real images: auto decides from sizes; device without a GPU is memory."""
    wait_s: float = 0.0
    """Seconds to wait for a node that can hold an actor."""
    attempts: int = 3
    """Times that a group is tried when its actors die."""
    stall_s: float = 900.0
    """Seconds of silence after which an actor counts as dead."""
    checkpoint_every_s: float = 10.0
    """Seconds between two checkpoints of a group."""
    checkpoint_every: int | None = None
    """Iterations between two checkpoints, in place of the seconds."""

    def __post_init__(self) -> None:
        for name in ("actors", "classes_per_group", "checkpoint_every"):
            if getattr(self, name) is not None:
                at_least(f"resources.{name}", getattr(self, name), 1)
        at_least("resources.attempts", self.attempts, 1)
        positive("resources.stall_s", self.stall_s)
        positive("resources.checkpoint_every_s", self.checkpoint_every_s)
        check("resources.wait_s", self.wait_s, 0 <= self.wait_s < 1e9, "seconds, 0 or more")
        if self.cpus_per_actor is not None:
            positive("resources.cpus_per_actor", self.cpus_per_actor)
        if self.gpus_per_actor is not None:
            given = self.gpus_per_actor
            # Ray counts in ten-thousandths.
            check("resources.gpus_per_actor", given, given == 0 or 1e-4 <= given < 1e6, "0, or 0.0001 and more")
            # Shares that do not divide a GPU hang in Ray: the cluster adds them up, the node cannot.
            whole = given == int(given) or (0 < given < 1 and abs(1 / given - round(1 / given)) < 1e-6)
            check("resources.gpus_per_actor", given, whole, "a whole number, or 1/k such as 0.5 or 0.25")


@dataclass(frozen=True, kw_only=True)
class Pretrain:
    """Networks trained on the whole training set, and on how many workers. Nothing here changes a condensed set."""

    architecture: str = "convnet3"
    """The network, by name, as for evaluate.architectures."""
    trajectories: int = 1
    """Networks that are trained one after another, with seeds 0, 1, ...; the snapshots of each are a trajectory."""
    epochs: int = 15
    batch: int = 128
    """Images of a step, over all workers together, so that their number changes rounding only."""
    learning_rate: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: Literal["cosine", "steps"] = "cosine"
    """cosine: the rate falls to 0 along half a cosine; steps: it is multiplied by 0.2 after 1/2, 3/4 and 7/8."""
    warmup: float = 0.1
    """Part of all steps in which the rate rises linearly."""
    augment: str = "crop_flip"
    """Operations on every training image, joined by underscores as in augment.strategy, at DSA's strengths; or none."""
    snapshot_every: int = 5
    """Epochs between two stored snapshots; the first and the last weights always are."""
    precision: Literal["auto", "float32", "tf32", "bfloat16"] = "auto"
    """As condense.precision: weights and their steps are float32, products are in this precision."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Whether the network is compiled; auto does it on a CPU where the training is long enough to gain by it."""
    workers: int | None = None
    """Processes that share every batch; one per GPU, else one per node, when not given."""
    cpus_per_worker: float | None = None
    """CPUs of a worker, which are its threads; a node's own without GPUs, up to 4 beside a GPU, when not given."""
    gpus_per_worker: float | None = None
    """0 or 1; 1 where there are GPUs when not given."""
    report_every: int = 1
    """Epochs between two checkpoints; all workers wait for each, so short epochs want fewer."""

    def __post_init__(self) -> None:
        check_choices(self, "pretrain")
        for name in ("trajectories", "snapshot_every", "report_every"):
            at_least(f"pretrain.{name}", getattr(self, name), 1)
        if self.workers is not None:
            at_least("pretrain.workers", self.workers, 1)
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
    """A whole run. ``OUT/config.json`` keeps it under ``config``."""

    seed: int = 0
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

    @property
    def method(self) -> Method:
        """The settings of the condensation itself."""
        return Method(kernel=self.kernel, augment=self.augment, encoder=self.encoder, condense=self.condense)

    def __post_init__(self) -> None:
        check("seed", self.seed, 0 <= self.seed < 2**63, "an integer from 0, below 2**63")
