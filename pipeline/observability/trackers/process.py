"""The process of one tracker: ``python -m pipeline.observability.trackers.process mlflow``.

It answers every line of its input with one line of JSON: ``{"id": ...}``, or ``{"failed": ...}`` before it ends. What the
tracker's package prints goes to the standard error.
"""

import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import Protocol

from pipeline.errors import one_line
from pipeline.observability.trackers.batch import Batch, Opening, batch_of, opening_of
from pipeline.observability.trackers.mlflow_run import MlflowRun
from pipeline.observability.trackers.wandb_run import WandbRun

ENVIRONMENT = {
    "MLFLOW_ALLOW_FILE_STORE": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "WANDB_ERROR_REPORTING": "false",
}
"""Variables that apply unless the user has set them: folders are allowed, and the packages report to nobody else."""


class TrackedRun(Protocol):
    """A run at a tracker."""

    id: str

    def log(self, batch: Batch) -> None:
        """Sends a batch."""

    def end(self, outcome: str) -> None:
        """Marks the run as finished, failed or interrupted."""


RUNS: dict[str, Callable[[Opening], TrackedRun]] = {"mlflow": MlflowRun, "wandb": WandbRun}
"""What opens a run at a tracker, by the tracker's name."""


def main(arguments: Sequence[str]) -> int:
    """Serves the driver until it is gone or says how the run has ended."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(**values: str) -> None:
        print(json.dumps(values), file=answers, flush=True)

    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        run = RUNS[arguments[0]](opening_of(sys.stdin.readline()))
        answer(id=run.id)
        for line in sys.stdin:
            batch = batch_of(line)
            run.log(batch)
            if batch.outcome:
                run.end(batch.outcome)
            answer(id=run.id)
            if batch.outcome:
                return 0
        run.end("interrupted")  # the driver was killed
    except Exception as error:
        answer(failed=one_line(error) or type(error).__name__)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
