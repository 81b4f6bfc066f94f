"""A command that was killed after its last result: the repeated one has nothing to do but to tidy."""

import json
import os
from pathlib import Path

import pytest

from pipeline.condense.manifest import new_record
from pipeline.formats.run_folder import RunFolder
from pipeline.runtime.lease import host_name, started_at
from pipeline.workflow.run import run_all, run_condense
from pipeline.workflow.run_state import Run
from tests.pipeline.evaluate.test_stage import condensed_run
from tests.pipeline.support.runs import placement_of, small_config

CONFIG = small_config(iterations=2)


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """A finished run whose driver was killed while it removed what it needs no longer."""
    dataset, folder = condensed_run(CONFIG, tmp_path), RunFolder.at(tmp_path)
    folder.write_record(new_record(CONFIG, dataset, placement_of(CONFIG)))
    shard = tmp_path / "condensed" / "shard-00001.arrow"
    (tmp_path / "checkpoints" / "group-00001.shard.arrow").write_bytes(shard.read_bytes())
    write_lease(tmp_path, started="1")
    return tmp_path


def write_lease(out: Path, *, started: str | None) -> None:
    """Writes the lease of a process of this machine with the id of this one."""
    entry = {"host": host_name(), "pid": os.getpid(), "started": started, "token": "t", "heartbeat": 1.0, "beats": 0}
    (out / "lease.json").write_text(json.dumps(entry))


def names(out: Path) -> set[str]:
    """Names of all files but class shards."""
    return {path.name for path in out.rglob("*") if path.is_file() and "class-shards" not in path.parts}


def test_condense_tidies_a_condensed_run(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = names(finished)
    run_condense(CONFIG, str(finished))
    assert before - names(finished) == {"lease.json", "group-00001.shard.arrow"}
    assert "already finished" in capsys.readouterr().out
    assert Run.at(str(finished), CONFIG).is_condensed()


def test_run_tidies_a_finished_run(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Run, "is_finished", lambda self: True)
    before = names(finished)
    run_all(CONFIG, str(finished))
    assert before - names(finished) == {"lease.json", "group-00001.shard.arrow"}


def test_a_finished_run_in_which_another_driver_works_is_left_alone(finished: Path) -> None:
    write_lease(finished, started=started_at(os.getpid()))
    before = names(finished)
    run_condense(CONFIG, str(finished))
    assert names(finished) == before
