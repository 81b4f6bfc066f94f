"""The cells of CIFAR-10 with m3d alone, where there is no Ray: ``python -m tests.reproduce.alone --data FOLDER [CELL ...]``.

FOLDER holds the parts that ``python -m tests.reproduce.pack`` made. All classes are one group on one device; every cell is
condensed, then evaluated against random images and mosaics, and leaves NAME.json in --results. An interrupted call, by
Ctrl-C or because its minutes are over, goes on where it ended. Several calls for different cells may share a GPU.
"""

import argparse
import json
import math
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch

from m3d import Condense, ConfigError, Evaluate, NotFiniteError
from tests.reproduce.alone_cell import PUBLISHED_SCHEDULE, Task, condense, replace_file, result
from tests.reproduce.alone_rows import rows
from tests.reproduce.cells import CELLS, Cell, OutOfTimeError
from tests.reproduce.packed import Images, PartsError, load

ROOT = Path(__file__).resolve().parent.parent.parent


def main() -> int:
    """Runs the command line; 0 also where the time was used up, since the same command goes on."""
    given = _parser().parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    cells = {cell.name: cell for cell in sorted(CELLS, key=_images_per_class) if cell.data == "cifar10"}
    unknown = set(given.cells) - set(cells)
    if unknown:
        print(f"unknown cells: {', '.join(sorted(unknown))}; there are: {', '.join(cells)}")
        return 2
    plain = _schedule(given) == PUBLISHED_SCHEDULE and not given.best_epoch
    folder = given.results or (ROOT / "docs" / "results" if plain else given.work)
    chosen = [cells[name] for name in given.cells or cells]
    todo = [cell for cell in chosen if not _measured(folder, cell, given)]
    ends = time.monotonic() + 60 * given.minutes
    try:
        images = load(given.data) if todo else None
        for cell in todo:
            assert images is not None
            task = task_of(cell, images, ends, given)
            made = condense(task)
            found = result(task, made, *rows(task, made))
            replace_file(folder / f"{cell.name}.json", (json.dumps(found, indent=1) + "\n").encode())
            print(f"{cell.name}: measured, {folder / cell.name}.json", flush=True)
    except OutOfTimeError:
        print("the time is over; the same command goes on")
    except KeyboardInterrupt:
        print("interrupted; the same command goes on")
        return 130
    except NotFiniteError as error:
        print(error)
        return 1
    except (ConfigError, PartsError) as error:
        print(error)
        return 2
    print(f"{sum(_measured(folder, cell, given) for cell in chosen)} of {len(chosen)} cells have a result")
    return 0


def task_of(cell: Cell, images: Images, ends: float, given: argparse.Namespace) -> Task:
    """The cell at its images per class and its seed."""
    settings = dict(setting.split("=") for setting in cell.settings)
    return Task(
        cell=cell,
        condense=Condense(images_per_class=_images_per_class(cell), iterations=given.iterations, compile=given.compile),
        evaluate=Evaluate(epochs=given.epochs, seeds=cell.seeds),
        best_epoch=given.best_epoch,
        compile=given.compile,
        seed=int(settings.get("seed", 0)),
        images=images,
        device=torch.device("cuda" if torch.cuda.is_available() else "cpu"),
        place=given.work / cell.name,
        ends=ends,
        commit=given.commit,
    )


def _images_per_class(cell: Cell) -> int:
    return int(cell.preset.rpartition("ipc")[2])


def _schedule(given: argparse.Namespace) -> tuple[int, int]:
    return given.iterations, given.epochs or PUBLISHED_SCHEDULE[1]


def _measured(folder: Path, cell: Cell, given: argparse.Namespace) -> bool:
    """Whether there is a result of the schedule that is asked for, with the looks that are."""
    path = folder / f"{cell.name}.json"
    if not path.exists():
        return False
    held: dict[str, Any] = json.loads(path.read_text())
    row = held["rows"][0]
    every = row.get("best_epoch_compatibility", {}).get("every", 0)
    return (held["schedule"]["iterations"], row["epochs"]) == _schedule(given) and given.best_epoch in (0, every)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cells", nargs="*", metavar="CELL", help="names, in order; all of CIFAR-10 when none is given")
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="parts of the images")
    folder = {"type": Path, "metavar": "FOLDER"}
    parser.add_argument("--work", **folder, default=Path("runs/alone"), help="what is under way (%(default)s)")
    parser.add_argument(
        "--results", **folder, help="docs/results, or --work for another schedule or with --best-epoch, when not given"
    )
    parser.add_argument(
        "--minutes",
        type=float,
        default=math.inf,
        help="stop after so many, once what is being compiled is; the same command goes on",
    )
    parser.add_argument(
        "--iterations", type=int, default=PUBLISHED_SCHEDULE[0], help="more go on from fewer (%(default)s)"
    )
    parser.add_argument("--epochs", type=int, help=f"of evaluation ({PUBLISHED_SCHEDULE[1]})")
    parser.add_argument(
        "--best-epoch",
        type=int,
        default=0,
        metavar="N",
        help="look at the test accuracy every N epochs as well",
    )
    parser.add_argument("--compile", choices=("auto", "on", "off"), default="auto")
    parser.add_argument("--commit", required=True, help="of this code, as the results say it")
    return parser


if __name__ == "__main__":
    sys.exit(main())
