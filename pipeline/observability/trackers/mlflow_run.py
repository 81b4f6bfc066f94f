"""A run at MLflow: in a local folder or database, or on a server, as MLflow's own variables say."""

import importlib
import os
import re
import time

from pipeline.observability.trackers.batch import Batch, Opening

EXPERIMENT = "m3d-condense"
"""Experiment of runs, unless MLFLOW_EXPERIMENT_NAME names another."""
MOST_METRICS, MOST_PARAMETERS = 1000, 100
"""What MLflow takes in one request."""
LONGEST_PARAMETER = 500
STATUS = {"finished": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}
"""MLflow's words for how a call of the command ended."""
GONE = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
"""Codes of errors for an id that this server does not know."""


class MlflowRun:
    """Continues a run, or begins one if there is none."""

    def __init__(self, opening: Opening) -> None:
        self._mlflow = importlib.import_module("mlflow")
        self._client = self._mlflow.MlflowClient()
        self.id = opening.id if opening.id and self._continues(opening.id) else self._begun(opening.name)
        # A parameter cannot change; a resumed run may have other resources.
        self._has = set(self._client.get_run(self.id).data.params)

    def log(self, batch: Batch) -> None:
        """Sends a batch. A result that MLflow has is not sent again."""
        entities = self._mlflow.entities
        new = {key: value for key, value in batch.settings.items() if _name(key) not in self._has}
        parameters = [entities.Param(_name(key), str(value)[:LONGEST_PARAMETER]) for key, value in new.items()]
        for start in range(0, len(parameters), MOST_PARAMETERS):
            self._client.log_batch(self.id, params=parameters[start : start + MOST_PARAMETERS])
        self._has |= {_name(key) for key in new}
        metrics = [
            entities.Metric(_name(point.name), point.value, int(point.time * 1000), point.step)
            for point in batch.points
        ]
        if batch.results:
            stored = self._client.get_run(self.id).data.metrics
            now = int(time.time() * 1000)
            metrics += [
                entities.Metric(_name(name), value, now, 0)
                for name, value in batch.results.items()
                if stored.get(_name(name)) != value
            ]
        for start in range(0, len(metrics), MOST_METRICS):
            self._client.log_batch(self.id, metrics=metrics[start : start + MOST_METRICS])

    def end(self, outcome: str) -> None:
        """Marks the run as finished, failed or killed."""
        self._client.set_terminated(self.id, STATUS[outcome])

    def _continues(self, run_id: str) -> bool:
        try:
            run = self._client.get_run(run_id)
        except self._mlflow.exceptions.MlflowException as error:
            if error.error_code in GONE:
                return False
            raise
        if run.info.lifecycle_stage != "active":
            return False
        self._client.update_run(run_id, status="RUNNING")
        return True

    def _begun(self, name: str) -> str:
        named = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
        experiment = self._client.get_experiment_by_name(named)
        number = experiment.experiment_id if experiment else self._client.create_experiment(named)
        return self._client.create_run(number, run_name=name).info.run_id


def _name(name: str) -> str:
    """The name with the characters that MLflow allows."""
    return re.sub(r"[^\w\-. /]", "_", name, flags=re.ASCII)
