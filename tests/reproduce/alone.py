"""Measures CIFAR-10's cells with m3d alone, without Ray: ``python -m tests.reproduce.alone --data FOLDER [CELL ...]``.

FOLDER contains the parts that ``python -m tests.reproduce.pack`` wrote. All classes are one group on one device. Every
cell is condensed, then evaluated against random images and mosaics, and leaves NAME.json in --results. A call that was
interrupted by Ctrl-C or ran out of minutes resumes where it ended. Several calls for different cells may share a GPU.
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
    """Runs the command line. Returns 0 also if the time ran out, since the same command resumes."""
    args = _parser().parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    cells = {cell.name: cell for cell in sorted(CELLS, key=_images_per_class) if cell.data == "cifar10"}
    unknown = set(args.cells) - set(cells)
    if unknown:
        print(f"unknown cells: {', '.join(sorted(unknown))}; there are: {', '.join(cells)}")
        return 2
    plain = _schedule(args) == PUBLISHED_SCHEDULE and not args.best_epoch
    folder = args.results or (ROOT / "docs" / "results" if plain else args.work)
    chosen = [cells[name] for name in args.cells or cells]
    todo = [cell for cell in chosen if not _measured(folder, cell, args)]
    ends = time.monotonic() + 60 * args.minutes
    try:
        images = load(args.data) if todo else None
        for cell in todo:
            assert images is not None
            task = task_of(cell, images, ends, args)
            made = condense(task)
            measured = result(task, made, *rows(task, made))
            replace_file(folder / f"{cell.name}.json", (json.dumps(measured, indent=1) + "\n").encode())
            print(f"{cell.name}: measured, {folder / cell.name}.json", flush=True)
    except OutOfTimeError:
        print("the time is over; the same command resumes")
    except KeyboardInterrupt:
        print("interrupted; the same command resumes")
        return 130
    except NotFiniteError as error:
        print(error)
        return 1
    except (ConfigError, PartsError) as error:
        print(error)
        return 2
    print(f"{sum(_measured(folder, cell, args) for cell in chosen)} of {len(chosen)} cells have a result")
    return 0


def task_of(cell: Cell, images: Images, ends: float, args: argparse.Namespace) -> Task:
    """The task of a cell, with its images per class and its seed."""
    settings = dict(setting.split("=") for setting in cell.settings)
    return Task(
        cell=cell,
        condense=Condense(images_per_class=_images_per_class(cell), iterations=args.iterations, compile=args.compile),
        evaluate=Evaluate(epochs=args.epochs, best_epoch=args.best_epoch, seeds=cell.seeds, compile=args.compile),
        seed=int(settings.get("seed", 0)),
        images=images,
        device=torch.device("cuda" if torch.cuda.is_available() else "cpu"),
        place=args.work / cell.name,
        ends=ends,
        commit=args.commit,
    )


def _images_per_class(cell: Cell) -> int:
    return int(cell.preset.rpartition("ipc")[2])


def _schedule(args: argparse.Namespace) -> tuple[int, int]:
    return args.iterations, args.epochs or PUBLISHED_SCHEDULE[1]


def _measured(folder: Path, cell: Cell, args: argparse.Namespace) -> bool:
    """Whether there is a result of the requested schedule, with the requested best-epoch figure."""
    path = folder / f"{cell.name}.json"
    if not path.exists():
        return False
    stored: dict[str, Any] = json.loads(path.read_text())
    row = stored["rows"][0]
    every = row.get("best_epoch_compatibility", {}).get("every", 0)
    return (stored["schedule"]["iterations"], row["epochs"]) == _schedule(args) and args.best_epoch in (0, every)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cells", nargs="*", metavar="CELL", help="names, in order; defaults to all cells of CIFAR-10")
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="folder of the packed images")
    folder = {"type": Path, "metavar": "FOLDER"}
    parser.add_argument("--work", **folder, default=Path("runs/alone"), help="folder of unfinished work (%(default)s)")
    parser.add_argument(
        "--results", **folder, help="defaults to docs/results, or to --work for another schedule or with --best-epoch"
    )
    parser.add_argument(
        "--minutes",
        type=float,
        default=math.inf,
        help="stop after so many minutes, once compiling is finished; the same command resumes",
    )
    parser.add_argument(
        "--iterations",
        type=int,
        default=PUBLISHED_SCHEDULE[0],
        help="a larger number resumes from a smaller one (%(default)s)",
    )
    parser.add_argument("--epochs", type=int, help=f"epochs of evaluation ({PUBLISHED_SCHEDULE[1]})")
    parser.add_argument(
        "--best-epoch",
        type=int,
        default=0,
        metavar="N",
        help="also record the best test accuracy of every N-th epoch",
    )
    parser.add_argument("--compile", choices=("auto", "on", "off"), default="auto")
    parser.add_argument("--commit", required=True, help="commit of this code, for the results")
    return parser


if __name__ == "__main__":
    sys.exit(main())
