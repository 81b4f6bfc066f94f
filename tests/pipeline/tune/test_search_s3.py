"""A search from a bucket into a bucket, as a process of its own that is killed and resumed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline import storage
from tests.pipeline.support.s3_service import SECRET
from tests.pipeline.workflow.test_run_s3 import SMALL, TIMEOUT_S, data, everything, surroundings

__all__ = ["data"]  # the fixture

SEARCH = ("tune.classes=2", "tune.iterations=12", "tune.rungs=2", "tune.seeds=2", "tune.epochs=2")
TRIALS = 6


def records(out: str) -> dict[str, Any]:
    """The records of all trials, by key."""
    keys = [key for key in storage.folders_below(f"{out}/trials") if storage.exists(f"{out}/trials/{key}/record.json")]
    return {key: json.loads(storage.read_bytes(f"{out}/trials/{key}/record.json")) for key in keys}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_search_in_a_bucket_is_killed_and_resumed(data: str, tmp_path: Path) -> None:
    out = f"{data}/search"
    settings = [part for text in (*SEARCH, f"data.disk_cache={tmp_path / 'copies'}") for part in ("--set", text)]
    command = [sys.executable, "-m", "pipeline", "tune", *SMALL, *settings, "--data", f"{data}/tin", "--out", out]
    command += ["--trials", str(TRIALS)]
    log = tmp_path / "log"
    environment, cwd = surroundings(os.environ["AWS_ENDPOINT_URL"]), Path(__file__).parents[3]
    with log.open("wb") as sink:
        driver = subprocess.Popen(
            command, env=environment, cwd=cwd, stdout=sink, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        ends = time.monotonic() + TIMEOUT_S
        while sum(record["outcome"] != "running" for record in records(out).values()) < 2:
            assert driver.poll() is None, log.read_text()
            assert time.monotonic() < ends, log.read_text()
            time.sleep(0.05)
        os.kill(driver.pid, signal.SIGKILL)
    finally:
        if driver.poll() is None:
            driver.kill()
        driver.wait(timeout=60)
    before = {key: record for key, record in records(out).items() if record["outcome"] == "finished"}
    assert not storage.exists(f"{out}/best.json"), "the search was over before the kill"
    done = subprocess.run(
        [*command, "--resume"], env=environment, cwd=cwd, capture_output=True, text=True, timeout=TIMEOUT_S
    )
    assert done.returncode == 0, done.stderr
    after = records(out)
    assert len(after) == TRIALS
    assert {record["outcome"] for record in after.values()} <= {"finished", "stopped"}
    assert {key: after[key]["rungs"] for key in before} == {key: record["rungs"] for key, record in before.items()}
    assert {"best.json", "final.json", "trials.parquet", "tune.html"} <= set(storage.files_below(out))
    for text in (done.stdout, done.stderr, log.read_text(), *map(str, everything(out))):
        assert SECRET not in text
