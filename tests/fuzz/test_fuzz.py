"""A few of the inputs that ``make fuzz`` reads by the thousand, and that a fault is found, saved and repeated."""

import json
import re
import subprocess
import sys
from pathlib import Path
from random import Random

from tests.fuzz.__main__ import ROOT
from tests.fuzz.mutations import mutated, mutated_json, resealed
from tests.fuzz.targets import TARGETS

EXAMPLES = 40


def told(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """The end of ``python -m tests.fuzz``."""
    command = [sys.executable, "-m", "tests.fuzz", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280)


def test_files_of_every_kind_are_read_or_refused_in_one_line(tmp_path: Path) -> None:
    done = told("--examples", str(EXAMPLES), "--seed", "0", "--failures", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    lines = re.findall(r"^([\w-]+): (\d+) inputs, (\d+) refused, 0 faults", done.stdout, re.MULTILINE)
    assert [name for name, _, _ in lines] == list(TARGETS)
    assert all(int(count) == EXAMPLES for _, count, _ in lines)
    # All but checkpoints and snapshots, of which a damaged one is ignored, and records of trials, likewise.
    assert [name for name, _, refused in lines if refused == "0"] in (
        ["checkpoint", "snapshots", "search"],
        ["checkpoint", "snapshots"],
    )
    assert list(tmp_path.iterdir()) == []


SCRIPT = """
import os, sys, time
from pathlib import Path
from pipeline.errors import UserError
import tests.fuzz.__main__ as fuzzing
from tests.fuzz.target import Target

def write(folder):
    (folder / "a").mkdir()
    (folder / "a" / "file").write_bytes(b"fine")

def read(folder):
    match (folder / "file").read_bytes().decode(errors="replace"):
        case "wrong":
            raise ValueError("not refused in one line")
        case "large":
            bytearray(2**31)
        case "crash":
            os.abort()
        case "hang":
            time.sleep(1000)
        case "long":
            raise UserError("x" * 1000)
        case "refused":
            raise UserError("refused")

def invented(random):
    kinds = ("wrong", "large", "crash", "hang", "long", "refused", "fine")
    return {"file": random.choice(kinds).encode()}

fuzzing.WALL_S = 5.0
target = Target(name="example", write=write, read=read, room_bytes=2**30, invented=invented)
# Eight inputs of this seed end in all of these ways.
options = fuzzing.Options(seed=2366, examples=9, seconds=100, failures=Path(sys.argv[1]))
print(fuzzing.fuzz(target, options))
"""


def test_every_kind_of_fault_is_found_and_saved(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    for fault in (
        "ValueError: not refused",
        "MemoryError",
        "killed by SIGABRT",
        "did not answer in 5 s",
        "1000 characters",
    ):
        assert fault in done.stdout
    saved = {folder.name: (folder / "file").read_text() for folder in tmp_path.iterdir()}
    assert sorted(saved.values()) == ["crash", "hang", "large", "long", "wrong"]
    for name in saved:
        assert f"python -m tests.fuzz example --seed 2366 --index {name.rsplit('-', 1)[-1]}" in done.stdout
    assert done.stdout.splitlines()[-1] == "5"


def test_an_input_is_a_function_of_its_number() -> None:
    data = bytes(range(256)) * 4
    assert mutated(data, Random(1)) == mutated(data, Random(1)) != mutated(data, Random(2))
    document = json.dumps({"a": [1, 2, {"b": "c"}], "d": None}).encode()
    assert mutated_json(document, Random(3)) == mutated_json(document, Random(3))
    files = {"manifest.json": b'{"checksum": "", "shards": [{"file": "a", "sha256": ""}]}', "a": b"content"}
    sealed = json.loads(resealed(files)["manifest.json"])
    assert sealed["shards"][0]["sha256"].startswith("ed7002b4")
    assert sealed["checksum"] != ""
