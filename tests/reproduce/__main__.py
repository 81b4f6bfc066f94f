"""Measures the table of docs/results.md: ``python -m tests.reproduce [--minutes 9] [--data FOLDER] [CELL ...]``.

Each cell condenses one set and evaluates it with its baselines; a finished cell leaves docs/results/NAME.json and is not
measured again. An interrupted call, by Ctrl-C or because its minutes are over, goes on where it ended. Data is never
downloaded: FOLDER (or M3D_DATA) holds ``mnist`` (torchvision's root) and ``cifar10`` (Parquet, or torchvision's root).
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
    """Runs the command line; 0 also where the time was used up, since the same command goes on; 1 where a cell failed."""
    given = _parser().parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the command under way is asked to save what it holds
    if given.page:
        write_page()
        return 0
    unknown = set(given.cells) - {cell.name for cell in CELLS}
    if unknown:
        print(f"unknown cells: {', '.join(sorted(unknown))}; there are: {', '.join(cell.name for cell in CELLS)}")
        return 2
    if given.fresh and given.runs is not None:
        print("--fresh, --runs: a run that is taken over is not fresh; give one of them")
        return 2
    if given.runs is not None and not given.runs.is_dir():
        print(f"--runs {given.runs}: is no folder")
        return 2
    ends = time.monotonic() + 60 * given.minutes
    wanted = [cell for cell in CELLS if cell.name in given.cells or not given.cells]
    todo = [cell for cell in wanted if given.fresh or not _file(cell).exists()]
    for cell in todo if given.fresh else ():  # an old run would be found finished
        if not _missing(cell, given.data):
            _file(cell).unlink(missing_ok=True)
            shutil.rmtree(Path(given.work) / cell.name, ignore_errors=True)
    left, code = [], 0
    again = f"the same command {'without --fresh ' if given.fresh else ''}goes on"
    for cell in todo:
        reason = _missing(cell, given.data)
        if reason:
            left.append(f"{cell.name}: {reason}")
            continue
        data = Path(given.data) / cell.data if cell.data and given.data else None
        try:
            measure.write(measure.run(cell, data=data, work=Path(given.work), runs=given.runs, ends=ends))
        except KeyboardInterrupt:
            left.append(f"{cell.name}: interrupted; {again}")
            code = 130
            break
        except OutOfTimeError:
            left.append(f"{cell.name}: under way; {again}")
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
    """Why a cell cannot be measured here, or nothing."""
    if cell.needs_gpu and not torch.cuda.is_available():
        return "left out, needs a GPU"
    if cell.data and (data is None or not (Path(data) / cell.data).is_dir()):
        return f"left out, needs the folder {cell.data} in --data FOLDER (or M3D_DATA)"
    return ""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cells", nargs="*", metavar="CELL", help="names; all when none is given")
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop after so many; the same command goes on")
    parser.add_argument("--data", default=os.environ.get("M3D_DATA"), metavar="FOLDER", help="holds mnist and cifar10")
    parser.add_argument("--work", default="runs/reproduce", metavar="FOLDER", help="where the runs are made")
    parser.add_argument("--runs", type=Path, metavar="FOLDER", help="a run, or runs, to be taken over where they fit")
    parser.add_argument(
        "--fresh", action="store_true", help="forget the results and runs of the cells, and measure them again"
    )
    parser.add_argument("--page", action="store_true", help="only write docs/results.md from docs/results/*.json")
    return parser


if __name__ == "__main__":
    sys.exit(main())
