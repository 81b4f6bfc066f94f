"""A run at W&B: on its server, or in a folder with WANDB_MODE=offline."""

import importlib
import os
from itertools import groupby

from pipeline.observability.trackers.batch import Batch, Opening

PROJECT = "m3d-condense"
"""Project of runs, unless WANDB_PROJECT names another."""


class WandbRun:
    """Continues a run, or begins one if there is none. Sends what it is given, and nothing about the machine or its files."""

    def __init__(self, opening: Opening) -> None:
        wandb = importlib.import_module("wandb")
        settings = wandb.Settings(
            silent=True,
            host="",  # else the name of this machine is sent
            console="off",
            disable_code=True,
            disable_git=True,
            disable_job_creation=True,
            x_disable_meta=True,
            x_disable_machine_info=True,
            x_disable_stats=True,
            x_save_requirements=False,
        )
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or PROJECT,
            id=opening.id,
            name=opening.name,
            resume="allow",
            settings=settings,
        )
        self.id: str = self._run.id
        self._axes: dict[str, str] = {}

    def log(self, batch: Batch) -> None:
        """Sends a batch. Points are drawn over what their steps count, whatever W&B's own step is."""
        if batch.settings:
            self._run.config.update(dict(batch.settings), allow_val_change=True)
        for (axis, step), points in groupby(batch.points, key=lambda point: (point.axis, point.step)):
            values = {point.name: point.value for point in points}
            for name in values.keys() - self._axes.keys():
                self._run.define_metric(name, step_metric=axis)
                self._axes[name] = axis
            self._run.log({**values, axis: step})
        for name, value in batch.results.items():
            self._run.summary[name] = value

    def end(self, outcome: str) -> None:
        """Marks the run as finished or failed."""
        self._run.finish(exit_code=0 if outcome == "finished" else 1)
