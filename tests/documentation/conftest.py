"""A finished run of few iterations, which the pages call runs/demo."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from pipeline.condense.events import Done, LossSample, Progress
from pipeline.condense.group_store import GroupStore
from pipeline.condense.manifest import condensed_manifest, identity, new_record, shard_metadata
from pipeline.condense.sinks import EventLog, MetricsLog
from pipeline.condense.task import GroupTask
from pipeline.condense.worker import GroupWorker
from pipeline.config import presets
from pipeline.config.parsing import with_settings
from pipeline.evaluate.results import row_of, write_rows
from pipeline.evaluate.rows import Origins, request_of
from pipeline.exports.export_set import ExportRequest, run_export
from pipeline.formats.run_folder import RunFolder
from pipeline.runtime.placement import Placement
from tests.pipeline.support.pretraining import trained
from tests.pipeline.support.rows import network_score
from tests.pipeline.support.runs import EXECUTION, prepared

SHORT = (
    *("condense.iterations=2", "condense.precision=float32", "evaluate.seeds=2", "evaluate.epochs=2"),
    *("pretrain.epochs=1", "pretrain.precision=float32"),
)


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the run of the preset digits_ipc1 is runs/demo, with evaluation and one trained network, exports/digits-hub its export, and new.jpg a photo."""
    home = tmp_path_factory.mktemp("documentation")
    folder = RunFolder.at(home / "runs" / "demo")
    config = with_settings(presets.preset("digits_ipc1"), SHORT)
    dataset = prepared(config, home / "runs" / "demo")
    placement = Placement(
        actors=2, cpus_per_actor=1, gpus_per_actor=0, threads=1, groups=(tuple(range(5)), tuple(range(5, 10)))
    )
    record = new_record(config, dataset, placement)
    task = GroupTask(
        config=config,
        folder=folder,
        class_shards=dataset.folder,
        groups=placement.groups,
        identity=identity(record),
        threads=1,
        metadata=shard_metadata(config, dataset, record),
        report_every_s=0.1,
    )
    worker = GroupWorker(task, torch.device("cpu"))
    for group in range(2):
        list(worker.condense(group, EXECUTION))
    sample = LossSample(iteration=2, losses=(0.5,) * 5, images_per_s=100.0)
    progress = Progress(iteration=0, losses=(sample,), node="node")
    EventLog(folder, "demo-1a2b3c4d")(0, progress)
    MetricsLog(folder, placement.groups)(0, progress)
    EventLog(folder, "demo-1a2b3c4d")(0, Done(iteration=2, node="node"))
    folder.write_record(record)
    GroupStore(folder, task.identity).commit(2, condensed_manifest(config, dataset, record))
    score = network_score(*([9 if a == b else 1 for a in range(10)] for b in range(10)))
    rows = [
        row_of(
            request_of(config, name, "convnet3", classes=10, origins=Origins(condensed_set="0" * 64)),
            {0: score, 1: replace(score, accuracy=score.accuracy + 1)},
            images_per_class=1,
            images=40,
        )
        for name in ("condensed", "random", "mosaic")
    ]
    write_rows(folder, rows)
    trained(config, folder, dataset)
    run_export(str(home / "runs" / "demo"), ExportRequest(format="hub"), str(home / "exports" / "digits-hub"))
    Image.new("RGB", (40, 30)).save(home / "new.jpg")
    return home
