"""Rows of an evaluation and scores of networks, for tests that train nothing."""

from typing import Any, cast

from pipeline.config.run_config import RunConfig
from pipeline.evaluate.results import NetworkScore, row_of
from pipeline.evaluate.rows import EvaluationRow, Origins, request_of
from pipeline.formats.confusion_matrix import Confusion


def stored_row(name: str, mean: float, **other: Any) -> EvaluationRow:
    """A row with the keys of the oldest version, and others by name."""
    row = {"set": name, "architecture": "convnet3", "protocol": "idc", "on": "test", "mean": mean, "seeds": [0, 1]}
    return cast(EvaluationRow, {**row, "accuracies": [mean - 1, mean + 1], **other})


def network_score(*confusion: list[int], best: float | None = None) -> NetworkScore:
    """The score of a network with a confusion matrix."""
    right = sum(line[label] for label, line in enumerate(confusion))
    accuracy = 100 * right / sum(map(sum, confusion))
    return NetworkScore(
        accuracy=accuracy, confusion=Confusion.of(confusion), best=best, precision="float32", compiled=False
    )


def measured_row(
    config: RunConfig, name: str, scores: dict[int, NetworkScore], *, classes: int, **origins: str
) -> EvaluationRow:
    """The row of a set and convnet1 with scores by seed; ``origins`` are checksums by name."""
    request = request_of(config, name, "convnet1", classes=classes, origins=cast(Origins, origins))
    return row_of(request, scores, images_per_class=config.condense.images_per_class, images=8)
