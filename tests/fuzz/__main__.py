"""``python -m tests.fuzz``: damaged and hostile files of every kind that is read, for minutes.

Whatever a file contains, it is read or refused: one line of at most 600 characters, memory within a limit (RLIMIT_AS), no
other exception, no crash, no endless loop. An input that ends otherwise is saved with the command that repeats it.
"""

import argparse
import json
import multiprocessing
import os
import random
import re
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # a process that forks must not have threads

from tests.fuzz.target import Target
from tests.fuzz.worker import Ended, input_of, serve

ROOT = Path(__file__).resolve().parents[2]
"""Folder of the project."""
WALL_S = 90.0
"""Seconds without an answer after which a worker counts as hanging."""
FAILED = "failed.txt"
"""File for the traceback of a worker that could not make its input."""
RENEW = 2000
"""Inputs after which a worker is replaced, since some libraries keep memory."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line asks for."""

    seed: int
    examples: int | None
    """Inputs per target; None: as many as the time allows."""
    seconds: float
    """Seconds for each target."""
    failures: Path


def main() -> int:
    """Fuzzes every target in turn. Returns exit code 1 if an input ended in a wrong way."""
    from tests.fuzz.targets import TARGETS  # all of the pipeline

    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument(
        "targets", nargs="*", metavar="TARGET", help=f"what to read (default: all): {', '.join(TARGETS)}"
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="time for all targets together (default: 10)")
    parser.add_argument("--examples", type=int, help="inputs per target, instead of a time")
    parser.add_argument("--seed", type=int, help="random seed (default: another one each time, which is printed)")
    parser.add_argument("--index", type=int, help="repeat this input of one target, and print the exception")
    parser.add_argument("--failures", type=Path, default=Path("runs/fuzz"), help="folder for inputs that failed")
    args = parser.parse_args()
    names = args.targets or list(TARGETS)
    unknown = [name for name in names if name not in TARGETS]
    if unknown:
        parser.error(f"{unknown[0]}: allowed: {', '.join(TARGETS)}")
    seed = random.SystemRandom().randrange(2**32) if args.seed is None else args.seed
    if args.index is not None:
        return _repeat(TARGETS[names[0]], seed, args.index)
    print(f"seed {seed}", flush=True)
    options = Options(
        seed=seed, examples=args.examples, seconds=60 * args.minutes / len(names), failures=args.failures.absolute()
    )
    return 1 if sum(fuzz(TARGETS[name], options) for name in names) else 0


def fuzz(target: Target, options: Options) -> int:
    """Reads inputs of a target, prints a line, and returns the number of failures."""
    ends, faults, next_index, refused, slowest = time.monotonic() + options.seconds, {}, 0, 0, 0.0
    while time.monotonic() < ends and (options.examples is None or next_index < options.examples):
        last = min(next_index + RENEW, options.examples or sys.maxsize)
        with (
            tempfile.TemporaryDirectory(prefix="m3d-fuzz-") as folder,
            _worker(target, options.seed, next_index, folder) as lines,
        ):
            for ended in lines:
                next_index, refused, slowest = ended.index + 1, refused + ended.refused, max(slowest, ended.seconds)
                if ended.fault:
                    key = _key(ended.fault)
                    if key not in faults:
                        faults[key] = ended
                        _report(target, options, ended)
                if next_index >= last or (options.examples is None and time.monotonic() > ends):
                    break
    print(
        f"{target.name}: {next_index} inputs, {refused} refused, {len(faults)} faults, slowest {slowest:.2f} s",
        flush=True,
    )
    return len(faults)


@contextmanager
def _worker(target: Target, seed: int, first: int, folder: str) -> Iterator[Iterator[Ended]]:
    """A process that reads inputs from number ``first`` on; yields how they end."""
    reading, writing = os.pipe()
    context = multiprocessing.get_context("fork")
    process = context.Process(target=_serve, args=(target, seed, first, Path(folder), writing, reading), daemon=True)
    process.start()
    os.close(writing)
    try:
        yield _answers(process, reading, first)
        if Path(folder, FAILED).exists():
            raise RuntimeError(Path(folder, FAILED).read_text())
    finally:
        process.kill()
        process.join()
        os.close(reading)


def _serve(target: Target, seed: int, first: int, folder: Path, writing: int, reading: int) -> None:
    os.close(reading)
    # What libraries print belongs to no test; faults travel through the pipe.
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    try:
        serve(target, seed, first, folder, writing)
    except BaseException:
        (folder / FAILED).write_text(traceback.format_exc())
        raise


def _answers(process: BaseProcess, reading: int, first: int) -> Iterator[Ended]:
    """How the inputs end; the last one with a fault if the process dies or hangs."""
    text, index = b"", first
    while True:
        ready, _, _ = select.select([reading], [], [], WALL_S)
        piece = os.read(reading, 2**16) if ready else b""
        if not piece:
            process.join(5 if ready else 0)
            code = process.exitcode
            how = f"was killed by {signal.Signals(-code).name}" if code and code < 0 else f"ended with code {code}"
            yield Ended(index=index, fault=f"the process {how if ready else f'did not answer in {WALL_S:g} s'}")
            return
        *lines, text = (text + piece).split(b"\n")
        for line in lines:
            answer = json.loads(line)
            if isinstance(answer, int):
                index = answer
            else:
                yield Ended(**answer)


def _key(fault: str) -> str:
    """What makes two faults the same: the place and the type of the exception, or the text without numbers."""
    places = re.findall(r'File "([^"]+)", line (\d+)', fault)
    last = fault.strip().splitlines()[-1]
    return f"{places[-1]} {last.partition(':')[0]}" if places else re.sub(r"\d+", "N", last[:60])


def _report(target: Target, options: Options, ended: Ended) -> None:
    """Saves the files of an input that failed, prints what happened and how to repeat it."""
    place = options.failures / f"{target.name}-{options.seed}-{ended.index}"
    context = multiprocessing.get_context("fork")
    process = context.Process(target=_save, args=(target, options.seed, ended.index, place))
    process.start()
    process.join()
    command = f"python -m tests.fuzz {target.name} --seed {options.seed} --index {ended.index}"
    print(f"{target.name}: {ended.fault}\n  saved in {place}\n  repeat: {command}", flush=True)


def _save(target: Target, seed: int, index: int, place: Path) -> None:
    """Makes an input again, in a process of its own: this one must not have threads. The worker may be at another input."""
    with tempfile.TemporaryDirectory() as folder:
        files = input_of(target, target.valid(Path(folder, "valid")), seed, index)
    shutil.rmtree(place, ignore_errors=True)
    for name, content in files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(content)


def _repeat(target: Target, seed: int, index: int) -> int:
    """Reads one input in this process, without limits."""
    with tempfile.TemporaryDirectory(prefix="m3d-fuzz-") as folder:
        files = input_of(target, target.valid(Path(folder, "valid")), seed, index)
        for name, content in files.items():
            (path := Path(folder, "current", name)).parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        target.read(Path(folder, "current"))
    print("read without an error")
    return 0


if __name__ == "__main__":
    sys.exit(main())
