"""One of two workers of ``pretrain`` is stopped."""

import os
import signal
from pathlib import Path

import pytest

from pipeline.evaluate.results import read_rows
from pipeline.formats.run_folder import RunFolder
from tests.pipeline.pretrain.test_stage import LONG, TIMEOUT_S, driver_of, events, snapshots, undisturbed, wait_for


@pytest.mark.long
@pytest.mark.timeout(1000)
def test_a_stopped_worker_is_killed_and_training_resumes_from_the_checkpoint(tmp_path: Path) -> None:
    expected = undisturbed(tmp_path / "whole", LONG)
    out, cache = tmp_path / "out", tmp_path / "whole" / "class-shards"
    settings = ("--set", f"data.cache={cache}", "--set", "resources.stall_s=10")
    with driver_of(*LONG, *settings, "--out", str(out)) as driver:
        wait_for(lambda: [e for e in events(out, "epoch") if e["epoch"] >= 4], driver, "no fourth epoch")
        (victim,) = [event["pid"] for event in events(out, "worker") if event["rank"] == 1]
        os.kill(victim, signal.SIGSTOP)
        text, errors = driver.communicate(timeout=TIMEOUT_S)
    assert (driver.returncode, errors) == (0, "")
    assert "a worker was lost" in text
    first, second = (event["epoch"] for event in events(out, "begin"))
    assert first == 0
    assert 2 <= second < 24
    assert snapshots(out) == expected
    assert [row["set"] for row in read_rows(RunFolder.at(out))] == ["whole"]
