"""A worker of ``evaluate`` is stopped while it trains a network."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.pipeline.support.stalls import pipeline, stopped_once, worker

SMALL = [
    *("--preset", "digits_ipc1", "--set", "data.image_size=8", "--set", "condense.iterations=20"),
    *("--set", "evaluate.architectures=convnet2", "--set", "evaluate.seeds=2", "--set", "evaluate.together=1"),
    *("--set", "resources.stall_s=10"),
]
LONG = ["--sets", "condensed", "--set", "evaluate.epochs=1500", "--set", "resources.stall_s=10"]


def scores(out: Path) -> list[Any]:
    """What the rows of the long training say, without when and where they were made."""
    rows = json.loads((out / "evaluation.json").read_text())["results"]
    return [(row["set"], row["seeds"], row["accuracies"]) for row in rows if row["epochs"] == 1500]


@pytest.mark.long
@pytest.mark.timeout(1600)
def test_a_stopped_worker_is_replaced_and_the_rows_are_the_same(tmp_path: Path) -> None:
    cache = ["--set", f"data.cache={tmp_path / 'shards'}"]
    for stage in ("prepare", "condense"):
        done = pipeline(stage, *SMALL, *cache, "--out", str(tmp_path / "undisturbed"))
        assert done.returncode == 0, done.stderr
    shutil.copytree(tmp_path / "undisturbed", tmp_path / "stalled")
    command = ["evaluate", *LONG, *cache]
    ended = stopped_once(*command, str(tmp_path / "stalled"), victim=worker("evaluate"), folder=tmp_path)
    assert (ended.code, ended.errors, ended.victims) == (0, "", 1)
    # 60 s if it was stopped before its first heartbeat had arrived.
    assert re.search(r"evaluate: a worker was lost \(silent for (10|60) s\); its work is started again", ended.output)
    done = pipeline(*command, str(tmp_path / "undisturbed"))
    assert done.returncode == 0, done.stderr
    assert scores(tmp_path / "stalled") == scores(tmp_path / "undisturbed")
    assert len(scores(tmp_path / "stalled")) == 1
