"""One process per target: reads its files one after another, with a limit on memory, and reports how each ended."""

import json
import os
import random
import resource
import shutil
import time
import traceback
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path

from cluster.errors import ClusterError
from m3d.config import ConfigError
from pipeline.data.decode_image import BadImageError
from pipeline.errors import FailedError, UserError
from tests.fuzz.mutations import Files
from tests.fuzz.target import Target

REFUSALS = (UserError, BadImageError, ConfigError, ClusterError)
"""Errors of one line, for which the command line exits with code 2."""
LONGEST = 600
"""Most characters of a message, lists of allowed names not counted."""
CPU_S = 20.0
"""Most seconds of a CPU for one input."""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How the reading of one input ended."""

    index: int
    fault: str
    """What is wrong with that; empty if nothing is."""
    refused: bool = False
    seconds: float = 0.0


def serve(target: Target, seed: int, first: int, folder: Path, pipe: int) -> None:
    """Reads inputs from number ``first`` on, until the process is ended.

    Before every input its number goes to the pipe, and afterwards an ``Ended`` as JSON, a line each.
    """
    valid = target.valid(folder / "valid")
    current = folder / "current"
    _limit_memory(target.room_bytes)
    index = first
    while True:
        _put(current, input_of(target, valid, seed, index))
        os.write(pipe, f"{index}\n".encode())
        os.write(pipe, (json.dumps(asdict(_read(target, current, index))) + "\n").encode())
        index += 1


def input_of(target: Target, valid: list[Files], seed: int, index: int) -> Files:
    """Returns an input: a function of its number, of the seed and of the target alone. The first ones are the valid files."""
    if index < len(valid):
        return valid[index]
    return target.changed(valid, random.Random(f"{seed}/{target.name}/{index}"))


def _read(target: Target, folder: Path, index: int) -> Ended:
    began, refused, fault = time.process_time(), False, ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            target.read(folder)
    except REFUSALS as error:
        refused = True
        text = str(error).replace(str(folder), "FOLDER").partition("; allowed: ")[0]
        if len(text) > LONGEST or not text:
            fault = f"a message of {len(text)} characters: {text[:200]}"
    except FailedError as error:
        fault = f"FailedError: {error}"
    except BaseException:  # whatever it is, it is the result
        fault = traceback.format_exc(limit=-6)
    seconds = time.process_time() - began
    if seconds > CPU_S:
        fault = fault or f"took {seconds:.1f} s of a CPU"
    return Ended(index=index, fault=fault, refused=refused, seconds=round(seconds, 3))


def _put(folder: Path, files: Files) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def _limit_memory(room: int) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + room
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
