"""A trial of ``tune`` is stopped."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.parsing import to_dict
from tests.pipeline.support.runs import prepared, small_config
from tests.pipeline.support.searches import SMALL
from tests.pipeline.support.stalls import pipeline, stopped_once, worker

SEARCH = (
    "tune.searcher=grid",
    "tune.scheduler=none",
    "tune.final=none",
    "resources.stall_s=10",
    "condense.log_every=1000",
)
ITERATIONS = 3000


def accuracies(out: Path) -> dict[str, Any]:
    """Outcome and rungs of every trial, by key."""
    records = {path.parent.name: json.loads(path.read_text()) for path in out.glob("trials/*/record.json")}
    return {
        key: (record["outcome"], [(rung["iteration"], rung["accuracies"]) for rung in record["rungs"]])
        for key, record in records.items()
    }


@pytest.mark.long
@pytest.mark.timeout(1100)
def test_a_stopped_trial_is_run_again_with_the_same_accuracy(tmp_path: Path) -> None:
    config = small_config(
        *SMALL, *SEARCH, f"tune.iterations={ITERATIONS}", f"data.cache={json.dumps(str(tmp_path / 'c'))}"
    )
    (tmp_path / "c").mkdir()
    prepared(config, tmp_path)
    (tmp_path / "class-shards").rename(tmp_path / "c2")
    (tmp_path / "c").rmdir()
    (tmp_path / "c2").rename(tmp_path / "c")
    (tmp_path / "small.json").write_text(json.dumps(to_dict(config)))
    (tmp_path / "space.yaml").write_text("condense.learning_rate: {grid: [1.0]}\n")
    search = [
        "tune",
        "--config",
        str(tmp_path / "small.json"),
        "--space",
        str(tmp_path / "space.yaml"),
        "--trials",
        "2",
    ]
    ended = stopped_once(
        *search, "--out", str(tmp_path / "stalled"), victim=worker("ImplicitFunc.train"), folder=tmp_path
    )
    assert (ended.code, ended.victims) == (0, 1), ended.errors
    assert "lost     its process; starts again from its checkpoint" in ended.output
    done = pipeline(*search, "--out", str(tmp_path / "undisturbed"))
    assert done.returncode == 0, done.stderr
    assert accuracies(tmp_path / "stalled") == accuracies(tmp_path / "undisturbed")
    assert {outcome for outcome, _ in accuracies(tmp_path / "stalled").values()} == {"finished"}
