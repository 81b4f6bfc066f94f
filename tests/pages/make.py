"""Pages to look at: small runs by the command line, a search and a comparison from examples."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import numpy as np
from PIL import Image

from pipeline.evaluate.results import summary
from pipeline.evaluate.rows import ComparisonRow
from pipeline.formats.run_folder import RunFolder
from pipeline.tune.page import write_page
from pipeline.workflow.report import write_comparison
from tests.pipeline.support.rows import stored_row
from tests.pipeline.support.runs import small_config
from tests.pipeline.support.searches import FINAL_ROW, example_search

RUN_S = 1200
SHORT = (
    "condense.iterations=40",
    "condense.log_every=5",
    "condense.batch_real=16",
    "evaluate.epochs=5",
    'evaluate.architectures=["convnet3"]',
)


def make_pages(build: Path) -> list[Path]:
    """The pages, made below a folder. Finished runs are kept and only their pages written again."""
    runs = [_run(build / "digits", "digits_ipc1"), _run_of_a_hundred(build / "hundred", build / "images")]
    data = Path(os.environ.get("M3D_DATA", "")) / "cifar10"
    if "M3D_DATA" in os.environ and data.is_dir():
        settings = ("data.source=parquet", "evaluate.seeds=2", *SHORT)
        runs.append(_run(build / "cifar", "cifar10_ipc10", *settings, data=data))
    return [*runs, _search(build / "search"), _comparison(build / "comparison")]


def _run(out: Path, preset: str, *settings: str, data: Path | None = None) -> Path:
    options = [option for setting in settings for option in ("--set", setting)]
    options += ["--data", str(data)] if data is not None else []
    _pipeline("run", "--preset", preset, *options, "--out", str(out))
    _pipeline("report", str(out))
    return out / "report.html"


def _pipeline(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "pipeline", *arguments], timeout=RUN_S, check=True)


def _run_of_a_hundred(out: Path, images: Path) -> Path:
    """A run of a hundred classes of coloured stripes, each with an angle and a colour of its own."""
    if not images.exists():
        random = np.random.default_rng(0)
        y, x = np.mgrid[0:16, 0:16] / 16
        for number in range(100):
            angle, colour = np.pi * (number % 10) / 10, random.uniform(0.3, 1, 3)
            for split, count in (("train", 20), ("test", 4)):
                folder = images / split / f"stripes {number:02d} of a long name"
                folder.mkdir(parents=True)
                for index in range(count):
                    waves = np.sin(12 * (x * np.cos(angle) + y * np.sin(angle)) + random.uniform(0, 6))
                    pixels = 0.5 + 0.4 * waves[..., None] * colour + random.normal(0, 0.08, (16, 16, 3))
                    Image.fromarray((pixels.clip(0, 1) * 255).astype(np.uint8)).save(folder / f"{index}.png")
    settings = ("data.source=image_folder", "data.name=null", "data.image_size=16", "condense.images_per_class=5")
    return _run(out, "cifar10_ipc1", *settings, "evaluate.seeds=1", "encoder.width=32", *SHORT, data=images)


def _search(folder: Path) -> Path:
    result, space = example_search()
    folder.mkdir(parents=True, exist_ok=True)
    write_page(str(folder / "tune.html"), small_config(), result, space, [FINAL_ROW], name="digits")
    return folder / "tune.html"


def _comparison(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        _compared(name, architecture, [60.0 - 8 * index, 63.0 - 8 * index, 58.5], index)
        for architecture in ("convnet3", "resnetap10")
        for index, name in enumerate(("runs/demo", "runs/other with a long name", "theirs.pt:idc:factor=2"))
    ]
    write_comparison(RunFolder.at(folder), rows, classes=10, on="test")
    return folder / "comparison.html"


def _compared(name: str, architecture: str, accuracies: list[float], index: int) -> ComparisonRow:
    more: dict[str, Any] = {
        "difference": None if index == 0 else -8.0 * index,
        "difference_interval95": None if index == 0 else (-8.0 * index - 4, -8.0 * index + 4),
        "note": "it may have been made from images that it is scored on" if index == 2 else "",
    }
    row = stored_row(name, 0.0, architecture=architecture, seeds=[0, 1, 2], augmentation="protocol", labels="hard")
    return cast(ComparisonRow, {**row, **summary(accuracies), "images_per_class": 10.0, **more})
