"""The table of presets: their data and size as configured, and what was measured with them."""

import json
from collections.abc import Mapping
from functools import lru_cache
from importlib import resources
from typing import NotRequired

from typing_extensions import TypedDict

from pipeline.config import presets
from pipeline.config.run_config import RunConfig

TITLES = ("preset", "data", "px", "encoder", "iterations", "accuracy", "time")
RIGHT = ("px", "iterations")
"""Columns of numbers."""
NOTE = """\
The number behind ipc is that of the condensed images per class. accuracy: test accuracy in % of networks
trained on the set, mean ± deviation (docs/results.md). time: on 2 CPU cores in float32 (docs/performance.md).
Empty: not measured. plan --preset NAME --data DIR measures the time on your machine."""


class Measured(TypedDict):
    """What was measured with a preset as it is."""

    accuracy: NotRequired[tuple[float, float]]
    """Mean and standard deviation, in per cent."""
    time: NotRequired[str]
    """How long it took, in words."""


@lru_cache(maxsize=1)
def measured() -> Mapping[str, Measured]:
    """Returns what was measured, by preset; ``docs.generate`` writes the file from docs/results."""
    return json.loads(resources.files("pipeline.config").joinpath("preset_results.json").read_text())


def lines() -> list[str]:
    """Returns the table as lines of plain text, so that other programs can read it, too."""
    rows = [TITLES, *(row(name, presets.preset(name)) for name in presets.PRESETS)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(_justified, row, widths, TITLES)).rstrip() for row in rows]


def _justified(text: str, width: int, title: str) -> str:
    return text.rjust(width) if title in RIGHT else text.ljust(width)


def row(name: str, config: RunConfig) -> tuple[str, ...]:
    """Returns the cells of a preset."""
    known = measured().get(name, {})
    accuracy = known.get("accuracy")
    return (
        name,
        data_of(name, config),
        str(config.data.image_size),
        config.encoder.name,
        str(config.condense.iterations),
        f"{accuracy[0]:.1f} ± {accuracy[1]:.1f}" if accuracy else "",
        known.get("time", ""),
    )


def data_of(name: str, config: RunConfig) -> str:
    """Returns the data of a preset in words."""
    data = config.data
    if data.source != "image_folder":
        return data.name or data.source
    if data.subset:
        return f"ImageNet, {data.subset}"
    return "Tiny-ImageNet" if name.startswith("tiny_imagenet") else "your image folder"
