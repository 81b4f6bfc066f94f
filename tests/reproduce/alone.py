"""The cells of CIFAR-10 with m3d alone, where there is no Ray: ``python -m tests.reproduce.alone --data FOLDER [CELL ...]``.

FOLDER holds the parts that ``python -m tests.reproduce.pack`` made. All classes are one group on one device; every cell is
condensed, then evaluated against random images and mosaics, and leaves NAME.json in --results. An interrupted call, by
Ctrl-C or because its minutes are over, goes on where it ended: at the last checkpoint, or after the last network.
"""

import argparse
import json
import math
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch import Tensor

from m3d import Condense, Evaluate, TestSet
from tests.reproduce.alone_cell import Images, OutOfReachError, OutOfTimeError, Task, published, replace_file, run
from tests.reproduce.cells import CELLS, Cell

RESULTS = Path("docs/results")


def main() -> int:
    """Runs the command line; 0 also where the time was used up, since the same command goes on."""
    given = _parser().parse_args()
    names = [cell.name for cell in CELLS if cell.data == "cifar10"]
    unknown = set(given.cells) - set(names)
    if unknown:
        print(f"unknown cells: {', '.join(sorted(unknown))}; there are: {', '.join(names)}")
        return 2
    ends = time.monotonic() + 60 * given.minutes
    results = given.results or (RESULTS if published(given.iterations, given.epochs) else given.work)
    chosen = [cell for cell in CELLS if cell.name in (given.cells or names)]
    todo = [cell for cell in chosen if not (results / f"{cell.name}.json").exists()]
    try:
        images = load(given.data)
        for cell in todo:
            found = run(task_of(cell, images, ends, given))
            replace_file(results / f"{cell.name}.json", (json.dumps(found, indent=1) + "\n").encode())
            print(f"{cell.name}: measured", flush=True)
    except OutOfTimeError:
        print("the time is over; the same command goes on")
    except KeyboardInterrupt:
        print("interrupted; the same command goes on")
        return 130
    except (FileNotFoundError, OutOfReachError) as error:
        print(error)
        return 2
    done = sum((results / f"{cell.name}.json").exists() for cell in chosen)
    print(f"{done} of {len(chosen)} cells have a result")
    return 0


def load(folder: Path) -> Images:
    """Reads the parts. Raises FileNotFoundError where one is missing."""
    held = [torch.load(path, weights_only=True) for path in sorted(folder.glob("part-*.pt"))]
    if not held or held[0]["parts"] != len(held):
        wanted = held[0]["parts"] if held else "all"
        raise FileNotFoundError(
            f"--data {folder}: has {len(held)} of {wanted} parts; python -m tests.reproduce.pack makes them"
        )
    pieces = [piece for part in held for piece in part["pieces"]]
    labels = sorted({piece["label"] for piece in pieces})

    def of(split: str, label: int) -> Tensor:
        found = [one["images"] for one in pieces if (one["split"], one["label"]) == (split, label)]
        return torch.cat(found)

    test = [of("test", label) for label in labels]
    numbers = torch.cat([torch.full((len(part),), label) for label, part in zip(labels, test, strict=True)])
    moments = {"mean": tuple(held[0]["mean"]), "std": tuple(held[0]["std"])}
    shown = TestSet(images=torch.cat(test), labels=numbers, classes=len(labels), **moments)
    return Images(train=[of("train", label) for label in labels], test=shown)


def task_of(cell: Cell, images: Images, ends: float, given: argparse.Namespace) -> Task:
    """The cell at its images per class and its seed."""
    settings = dict(setting.split("=") for setting in cell.settings)
    count = int(cell.preset.rpartition("ipc")[2])
    return Task(
        cell=cell,
        condense=Condense(images_per_class=count, iterations=given.iterations, compile=given.compile),
        evaluate=Evaluate(epochs=given.epochs, best_epoch=given.best_epoch, seeds=cell.seeds),
        seed=int(settings.get("seed", 0)),
        images=images,
        device=torch.device("cuda" if torch.cuda.is_available() else "cpu"),
        place=given.work / cell.name,
        ends=ends,
        commit=given.commit,
    )


def _commit() -> str:
    found = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cells", nargs="*", metavar="CELL", help="names; all of CIFAR-10 when none is given")
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="parts of the images")
    parser.add_argument("--work", type=Path, default=Path("runs/alone"), metavar="FOLDER", help="what is under way")
    parser.add_argument("--results", type=Path, metavar="FOLDER", help="docs/results; --work for a shorter schedule")
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop after so many; the same command goes on")
    parser.add_argument("--iterations", type=int, default=10_000, help="raise it to go on with a shorter one")
    parser.add_argument("--epochs", type=int, help="of evaluation; the protocol's own when not given")
    parser.add_argument("--best-epoch", type=int, default=0, metavar="N", help="look at the accuracy every N epochs")
    parser.add_argument("--compile", choices=("auto", "on", "off"), default="auto")
    parser.add_argument("--commit", default=_commit(), help="of this code, where git does not say it")
    return parser


if __name__ == "__main__":
    sys.exit(main())
