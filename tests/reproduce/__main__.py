"""Measures the table of docs/results.md: ``python -m tests.reproduce [--minutes 9] [--data FOLDER] [CELL ...]``.

Each cell condenses one set and evaluates it with its baselines. A finished cell leaves docs/results/NAME.json and is not
measured again. A call that was interrupted by Ctrl-C or ran out of minutes resumes where it ended. Data is never
downloaded: FOLDER (or M3D_DATA) contains ``mnist`` (torchvision's root) and ``cifar10`` (Parquet, or torchvision's root).
"""

import argparse
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch

from pipeline.errors import UserError
from tests.reproduce import measure
from tests.reproduce.cells import CELLS, Cell, OutOfTimeError
from tests.reproduce.page import write_page


def main() -> int:
    """Runs the command line. Returns 1 if a cell failed, and 0 also if the time ran out, since the same command resumes."""
    args = _parser().parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the running command is asked to save its state
    if args.page:
        write_page()
        return 0
    unknown = set(args.cells) - {cell.name for cell in CELLS}
    if unknown:
        print(f"unknown cells: {', '.join(sorted(unknown))}; there are: {', '.join(cell.name for cell in CELLS)}")
        return 2
    if args.fresh and args.runs is not None:
        print("--fresh, --runs: a reused run is not fresh; give one of the two")
        return 2
    if args.runs is not None and not args.runs.is_dir():
        print(f"--runs {args.runs}: is not a folder; give the folder of a run, or of several")
        return 2
    ends = time.monotonic() + 60 * args.minutes
    wanted = [cell for cell in CELLS if cell.name in args.cells or not args.cells]
    todo = [cell for cell in wanted if args.fresh or not _file(cell).exists()]
    for cell in todo if args.fresh else ():  # else the old run would count as finished
        if not _missing(cell, args.data):
            _file(cell).unlink(missing_ok=True)
            shutil.rmtree(Path(args.work) / cell.name, ignore_errors=True)
    left, code = [], 0
    again = f"the same command {'without --fresh ' if args.fresh else ''}resumes it"
    for cell in todo:
        reason = _missing(cell, args.data)
        if reason:
            left.append(f"{cell.name}: {reason}")
            continue
        data = Path(args.data) / cell.data if cell.data and args.data else None
        try:
            measure.write(measure.run(cell, data=data, work=Path(args.work), runs=args.runs, ends=ends))
        except KeyboardInterrupt:
            left.append(f"{cell.name}: interrupted; {again}")
            code = 130
            break
        except OutOfTimeError:
            left.append(f"{cell.name}: unfinished; {again}")
            break
        except subprocess.CalledProcessError as error:
            left.append(f"{cell.name}: failed, exit code {error.returncode}")
            code = 1
            continue
        except UserError as error:  # such as a damaged record below --runs
            left.append(f"{cell.name}: {error}")
            code = 2
            continue
        print(f"{cell.name}: measured, {_file(cell)}")
    done = sum(_file(cell).exists() for cell in wanted)
    if done:
        write_page()
    print("\n".join([*left, f"{done} of {len(wanted)} cells have a result"]))
    return code


def _file(cell: Cell) -> Path:
    return measure.RESULTS / f"{cell.name}.json"


def _missing(cell: Cell, data: str | None) -> str:
    """Why a cell cannot be measured here; empty if it can."""
    if cell.needs_gpu and not torch.cuda.is_available():
        return "skipped, needs a GPU"
    if cell.data and (data is None or not (Path(data) / cell.data).is_dir()):
        return f"skipped, needs the folder {cell.data} in --data FOLDER (or M3D_DATA)"
    return ""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cells", nargs="*", metavar="CELL", help="names; all when none is given")
    parser.add_argument(
        "--minutes", type=float, default=math.inf, help="stop after so many minutes; the same command resumes"
    )
    parser.add_argument(
        "--data", default=os.environ.get("M3D_DATA"), metavar="FOLDER", help="contains mnist and cifar10"
    )
    parser.add_argument("--work", default="runs/reproduce", metavar="FOLDER", help="folder of the runs")
    parser.add_argument("--runs", type=Path, metavar="FOLDER", help="a run, or a folder of runs, to reuse if they fit")
    parser.add_argument(
        "--fresh", action="store_true", help="delete the results and runs of the cells and measure them again"
    )
    parser.add_argument("--page", action="store_true", help="only write docs/results.md from docs/results/*.json")
    return parser


if __name__ == "__main__":
    sys.exit(main())
