"""What Ray costs and what a second actor gains: ``python -m tests.benchmarks.scaling [--json] [--iterations 900]``.

The ``condense`` stage runs on CIFAR-10's shape at one image per class, two groups of five classes: with one actor of
one thread, with two, and as the same work in one process without Ray. Times are from the first to the last iteration.
A short run before fills the compiler's cache. Start-up and shutdown are reported separately.
"""

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from m3d import ClassImages, Condenser, iterate
from pipeline.config.parsing import from_dict
from pipeline.config.run_config import RunConfig
from pipeline.data.prepared_dataset import PreparedDataset
from pipeline.runtime.session import MALLOC

CLASSES, IMAGES = 10, 200


def main() -> None:
    """Prints the figures as JSON or as a line of text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--iterations", type=int, default=900)
    parser.add_argument("--alone", nargs=2, metavar=("CONFIG", "SHARDS"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.alone:
        print(_alone(from_dict(json.loads(Path(args.alone[0]).read_text()), origin="config"), args.alone[1]))
        return
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(args.iterations, Path(folder))
    if args.json:
        print(json.dumps(figures))
    else:
        print(
            f"{args.iterations} iterations: one actor {figures['one_actor_s']:.1f} s, two {figures['two_actors_s']:.1f} s: "
            f"{figures['two_over_one']:.2f} times as fast; without Ray {figures['alone_s']:.1f} s, so Ray costs "
            f"{100 * figures['ray_overhead']:.1f} %; start-up {figures['start_s']:.1f} s and shutdown {figures['end_s']:.1f} s"
        )


def measure(iterations: int, folder: Path) -> dict[str, Any]:
    """Seconds from the first to the last iteration, their ratios, and the seconds of start-up and shutdown."""
    _write_images(folder / "images")
    _condense(folder, "warm", 2, 5)
    shards = str(next((folder / "shards").iterdir()))
    config = folder / "warm" / "config.json"
    stored = json.loads(config.read_text())["config"]
    stored["condense"]["iterations"] = iterations
    (folder / "alone.json").write_text(json.dumps(stored))
    one = _condense(folder, "one", 1, iterations)
    two = _condense(folder, "two", 2, iterations)
    command = [sys.executable, "-m", "tests.benchmarks.scaling", "--alone", str(folder / "alone.json"), shards]
    same = {**os.environ, **MALLOC}  # as in the actors
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=3600, env=same)
    alone_s = float(done.stdout.strip().splitlines()[-1])
    return {
        "iterations": iterations,
        "one_actor_s": one["middle"],
        "two_actors_s": two["middle"],
        "alone_s": alone_s,
        "two_over_one": one["middle"] / two["middle"],
        "ray_overhead": one["middle"] / alone_s - 1,
        "start_s": two["start"],
        "end_s": two["end"],
        "torch": torch.__version__,
    }


def _condense(folder: Path, name: str, actors: int, iterations: int) -> dict[str, float]:
    settings = [
        f"condense.iterations={iterations}",
        "condense.compile=on",
        "data.source=image_folder",
        f"data.cache={folder / 'shards'}",
        f"resources.actors={actors}",
        "resources.cpus_per_actor=1",
        "resources.classes_per_group=5",
    ]
    command = [sys.executable, "-m", "pipeline", "condense", "--preset", "cifar10_ipc1", "--out", str(folder / name)]
    command += ["--data", str(folder / "images"), *(part for setting in settings for part in ("--set", setting))]
    began = time.time()
    subprocess.run(command, check=True, capture_output=True, timeout=3600)
    ended = time.time()
    events = [json.loads(line) for line in (folder / name / "events.jsonl").read_text().splitlines()]
    first = min(event["time"] for event in events if event["event"] == "compiled")
    # Compiling for a second group takes the same actor a second or less, and counts as part of the stage.
    last = max(event["time"] for event in events if event["event"] == "done")
    return {"start": first - began, "middle": last - first, "end": ended - last}


def _alone(config: RunConfig, shards: str) -> float:
    """Seconds that the same groups take one after another in this process, with one thread, without compiling."""
    torch.set_num_threads(1)
    cache = PreparedDataset(shards, config.data)
    mean, std = cache.moments
    total = 0.0
    for labels in (range(CLASSES // 2), range(CLASSES // 2, CLASSES)):
        condenser = Condenser(
            ClassImages([cache.train(label) for label in labels], labels, seed=config.seed),
            config.method,
            mean=mean,
            std=std,
            class_count=CLASSES,
        )
        state = condenser.init()
        condenser.warm_up(state)
        began = time.perf_counter()
        for step in iterate(condenser, state):
            state = step.state
        total += time.perf_counter() - began
    return total


def _write_images(folder: Path) -> None:
    random = np.random.default_rng(0)
    for label in range(CLASSES):
        place = folder / "train" / f"{label}"
        os.makedirs(place)
        for number in range(IMAGES):
            buffer = io.BytesIO()
            Image.fromarray(random.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(buffer, "PNG")
            (place / f"{number:04d}.png").write_bytes(buffer.getvalue())


if __name__ == "__main__":
    main()
