"""Ray's memory monitor kills the workers of a stage: that counts as attempts, and ends with a sentence about memory."""

from pathlib import Path

import pytest

from tests.pipeline.support.stalls import pipeline

SMALL = ["--preset", "digits_ipc1", "--set", "data.image_size=8", "--set", "condense.iterations=20"]
STARVED = {"RAY_memory_usage_threshold": "0.01", "RAY_memory_monitor_refresh_ms": "100"}


def starved(*command: str) -> str:
    """Runs a command on a machine whose memory counts as full, and returns its only line of error."""
    ended = pipeline(*command, **STARVED)
    assert ended.returncode == 1, (ended.stdout, ended.stderr)
    (line,) = ended.stderr.splitlines()
    assert "ran out of memory" in line
    return line


@pytest.mark.long
@pytest.mark.timeout(600)
def test_prepare(tmp_path: Path) -> None:
    assert "prepare: node" in (line := starved("prepare", *SMALL, "--out", str(tmp_path)))
    assert "killed a worker 3 times; lower data.image_size" in line


@pytest.mark.long
@pytest.mark.timeout(1600)
def test_evaluate(tmp_path: Path) -> None:
    done = pipeline("condense", *SMALL, "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "evaluate: node" in (line := starved("evaluate", str(tmp_path), "--sets", "condensed", "--seeds", "1"))
    assert "killed a worker 3 times; set evaluate.together=1" in line
