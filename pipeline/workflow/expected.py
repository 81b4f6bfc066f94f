"""What ``run`` says before it starts: roughly how long it will take, and that it may be interrupted."""

from m3d.backend.cost import forward_flops
from m3d.backend.execution import training_flops
from m3d.training.protocols import training_of
from pipeline.config.run_config import RunConfig
from pipeline.data.prepared_dataset import PreparedDataset
from pipeline.evaluate.rows import set_names
from pipeline.observability.progress import about
from pipeline.runtime.speed import time_of

LONG_S = 2 * 3600.0
"""Seconds from which a run is long for a few images."""
FEW = 5000
"""Most training images that are few."""


def condense_work(config: RunConfig, classes: int, channels: int) -> float:
    """Returns the operations of the condense stage: real images pass forward, views forward and backward."""
    condense = config.condense
    passes = condense.batch_real + 2 * condense.views
    return (
        float(condense.iterations) * classes * passes * forward_flops(config.encoder, channels, config.data.image_size)
    )


def evaluate_work(config: RunConfig, classes: int, channels: int) -> float:
    """Returns the operations of the evaluate stage, without scoring."""
    evaluate, condense, side = config.evaluate, config.condense, config.data.image_size
    epochs = training_of(evaluate).epochs
    images = [
        classes * condense.images_per_class * (condense.factor**2 if name in ("condensed", "mosaic") else 1)
        for name in set_names(config)
    ]
    return float(evaluate.seeds) * sum(
        training_flops(epochs, name, count, (channels, side, side))
        for name in evaluate.architectures
        for count in images
    )


def lines(config: RunConfig, dataset: PreparedDataset) -> list[str]:
    """Returns what to print before a new run. Ray must have been started, since a device is timed."""
    classes, channels = len(dataset.classes), dataset.manifest["shape"][0]
    shape = (channels, config.data.image_size)
    first, second = condense_work(config, classes, channels), evaluate_work(config, classes, channels)
    seconds, words = time_of(first + second, config.encoder, shape, config.resources)
    networks = len(config.evaluate.architectures) * len(set_names(config)) * config.evaluate.seeds
    plural = "class" if classes == 1 else "classes"
    share = f", {100 * first / (first + second):.0f} % of it to condense" if seconds is None or seconds >= 60 else ""
    said = [
        f"expected: {words} for {config.condense.iterations} iterations of {classes} {plural} and {networks} networks{share}; "
        "plan measures it more exactly",
        "Ctrl-C is safe: checkpoints are kept, and the same command resumes",
    ]
    images = dataset.counts["train"]
    if seconds is not None and seconds > LONG_S and images <= FEW:
        said.append(
            f"note: {about(seconds)} is long for {images} training images; --preset photos_ipc1 takes minutes for a few classes, "
            f"and init PATH proposes settings (now: {config.data.image_size} px, condense.iterations={config.condense.iterations}, "
            f"evaluate.epochs={training_of(config.evaluate).epochs})"
        )
    return said
