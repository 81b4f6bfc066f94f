"""What must be the same after a kill as without: the files of a stage's folder, by content, by value, or by their names."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from safetensors.torch import load

from pipeline.errors import UserError
from pipeline.evaluate.results import read_rows
from pipeline.formats.run_folder import RunFolder
from pipeline.storage.tensors import checksum, metadata_of

Content = dict[str, str]
"""What is promised of every file of a folder, by its name: a checksum, or PRESENT."""
PRESENT = "is there"
MEASURED = ("set", "architecture", "protocol", "on", "seeds", "accuracies", "confusion", "epochs", "condensed_set")
"""Keys of a row of results that follow from the run alone."""
OWN_FILES = (
    "search/*",  # Ray Tune's
    "experts/*/ray/*",  # Ray Train's
    "tensorboard/*",
    "events.jsonl",
    "metrics.jsonl",
    "clock.json",
)
"""Logs, and files that others write: they tell of the kill."""
NAMED = ("config.json", "search.json", "trials.parquet", "tune.html")
"""Files that have times, nodes or paths in them: their names are promised."""


def promised(out: Path) -> Content:
    """What is promised of a folder. Half-written files, leases and whatever else a run should have removed are in it, too."""
    names = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    return {name: _promised(out, name) for name in names if not any(fnmatch(name, own) for own in OWN_FILES)}


def differences(expected: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    """A sentence for every file that is missing, too many, or not the same."""
    return [
        *(f"{name}: is missing" for name in sorted(expected.keys() - found.keys())),
        *(f"{name}: was left behind" for name in sorted(found.keys() - expected.keys())),
        *(f"{name}: differs" for name in sorted(expected.keys() & found.keys()) if expected[name] != found[name]),
    ]


def _promised(out: Path, name: str) -> str:
    if name in NAMED:
        return PRESENT
    for pattern, read in BY_VALUE.items():
        if fnmatch(name, pattern):
            try:
                return _checksum(json.dumps(read(out / name), sort_keys=True).encode())
            except (UserError, ValueError, KeyError) as error:
                return f"cannot be read ({error})"
    return _checksum((out / name).read_bytes())


def _rows(path: Path) -> Any:
    rows = read_rows(RunFolder(str(path.parent)))
    return [{key: row.get(key) for key in MEASURED} for row in rows]


def _trial(path: Path) -> Any:
    """A trial's record without its times."""
    record = json.loads(path.read_text())
    rungs = [(rung["iteration"], rung["accuracies"]) for rung in record["rungs"]]
    return [record["key"], record["values"], record["outcome"], record["facts"], rungs]


def _tensors(path: Path) -> Any:
    """Tensors and metadata of a checkpoint. The metadata have no fixed order in the file."""
    content = path.read_bytes()
    return [metadata_of(content), checksum(load(content))]


def _page(path: Path) -> Any:
    """A page without what the run took, its throughput, and the commands, which name the folder."""
    own = r'<section aria-labelledby="(?:run|again)-title">.*?</section>|<figure><h3>Throughput</h3>.*?</figure>'
    return re.sub(own, "", path.read_text(), flags=re.DOTALL)


BY_VALUE: dict[str, Callable[[Path], Any]] = {
    "evaluation.json": _rows,
    "trials/*/record.json": _trial,
    "trials/*/checkpoints/*.safetensors": _tensors,
    "snapshots/*.safetensors": _tensors,
    "report.html": _page,
}
"""Files that have times in them, or no fixed order: what is read from each is promised."""


def _checksum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
