"""A package named wandb that records what it is told, for tests of what runs send to trackers."""

import json
import os
from pathlib import Path

import pytest

PACKAGE = """
import json, os, time
from types import SimpleNamespace

__version__ = "0"
FOLDER = os.environ["RECORDED"]

def note(**values):
    with open(os.path.join(FOLDER, "calls.jsonl"), "a") as file:
        file.write(json.dumps(values) + "\\n")

def trouble():
    path = os.path.join(FOLDER, "trouble")
    what = open(path).read() if os.path.exists(path) else ""
    if what == "hang":
        note(pid=os.getpid())
        time.sleep(600)
    if what == "once":
        os.remove(path)
    if what:
        raise RuntimeError("the server is\\naway")

class Settings:
    def __init__(self, **values):
        pass

class Summary(dict):
    def __setitem__(self, name, value):
        note(result=name, value=value)

class Run:
    id = "abc-1"
    summary = Summary()
    config = SimpleNamespace(update=lambda values, allow_val_change: note(settings=values))
    def define_metric(self, name, step_metric):
        note(metric=name, axis=step_metric)
    def log(self, values):
        print("a package prints")
        trouble()
        note(log=values)
    def finish(self, exit_code):
        note(finish=exit_code)

def init(**values):
    trouble()
    note(init=values["id"], name=values["name"])
    return Run()
"""


class Recording:
    """What the package was told, by the processes of trackers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def calls(self, kind: str) -> list[object]:
        """What the calls of one kind were given, in their order: init, log, settings, finish and others."""
        path = self.folder / "calls.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [call[kind] for call in map(json.loads, lines) if kind in call]

    def trouble(self, what: str) -> None:
        """Makes the package fail from now on (``always`` or ``once``) or ``hang``."""
        (self.folder / "trouble").write_text(what)


def recording_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recording:
    """Installs the package for processes that are started from now on."""
    folder = tmp_path / "recorded"
    (folder / "wandb").mkdir(parents=True)
    (folder / "wandb" / "__init__.py").write_text(PACKAGE)
    path = os.pathsep.join(part for part in (str(folder), os.environ.get("PYTHONPATH", "")) if part)
    monkeypatch.setenv("PYTHONPATH", path)
    monkeypatch.setenv("RECORDED", str(folder))
    return Recording(folder)
