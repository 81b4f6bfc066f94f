"""Undisturbed runs of the stages: made once, kept beside the trials, and compared with every trial of the same commit."""

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from tests.faults.promise import Content, promised
from tests.faults.run import Run, environment
from tests.faults.stages import SHARDS, Stage, stage_of, start_folder
from tests.faults.victims import MARK
from tests.faults.watch import EVERY_S, Steps


@dataclass(frozen=True, kw_only=True)
class Undisturbed:
    """What a run of a stage does if nothing is killed."""

    steps: tuple[float, ...]
    """Seconds after the start at which something changed in its folder."""
    seconds: float
    promised: Content


STORED = TypeAdapter(Undisturbed)
"""Reads and writes an undisturbed run as JSON."""


class Reference:
    """The undisturbed runs of a commit, below a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()

    @property
    def shards(self) -> Path:
        """The class shards that all stages but ``prepare`` read."""
        return self.finished(SHARDS) / "class-shards"

    def finished(self, name: str) -> Path:
        """Folder of the finished stage."""
        return self.folder / name.replace(" ", "-")

    def of(self, name: str) -> Undisturbed:
        """The undisturbed run of a stage, which is made if it is missing, as is everything that it reads.

        Raises:
            RuntimeError: it failed.
        """
        stage, record = stage_of(name), self.folder / f"{name.replace(' ', '-')}.json"
        if not stage.own_shards:
            self.of(SHARDS)
        if stage.after is not None:
            self.of(stage.after)
        if not record.exists():
            unfinished = record.with_suffix(".tmp")
            unfinished.write_bytes(STORED.dump_json(self._run(stage), indent=2))
            unfinished.rename(record)
        return STORED.validate_json(record.read_text())

    def start(self, stage: Stage, out: Path) -> None:
        """Makes the folder that a run of the stage starts with."""
        start_folder(stage, None if stage.after is None else self.finished(stage.after), out)

    def _run(self, stage: Stage) -> Undisturbed:
        out = self.finished(stage.name)
        shutil.rmtree(out, ignore_errors=True)
        self.start(stage, out)
        watched, times = Steps(out), []
        log = self.folder / "logs" / stage.name.replace(" ", "-")
        with Run(stage.arguments(out, self.shards), environment((MARK, "undisturbed")), log) as run:
            while not (run.is_over or run.is_late):
                before = watched.count
                if watched.look() > before:
                    times.append(round(run.seconds, 3))
                time.sleep(EVERY_S)
            seconds, code = run.seconds, run.code()
            if code != 0:
                raise RuntimeError(f"the undisturbed {stage.name} failed with exit code {code}: {run.said()[-1:]}")
        return Undisturbed(steps=tuple(times), seconds=round(seconds, 3), promised=promised(out))
