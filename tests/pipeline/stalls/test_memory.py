"""Ray's memory monitor kills the workers of a stage: that counts as attempts, and ends with a sentence about memory."""

from pathlib import Path

import pytest

from tests.pipeline.support.stalls import pipeline

SMALL = ["--preset", "digits_ipc1", "--set", "data.image_size=8", "--set", "condense.iterations=20"]
STARVED = {"RAY_memory_usage_threshold": "0.01", "RAY_memory_monitor_refresh_ms": "100"}


def starved(stage: str, advice: str, tmp_path: Path, *settings: str) -> None:
    """Runs a stage on a machine whose memory counts as full."""
    command = [stage, *SMALL, *settings, "--set", f"data.cache={tmp_path / 'shards'}", "--out", str(tmp_path / "out")]
    ended = pipeline(*command, **STARVED)
    assert ended.returncode == 1, (ended.stdout, ended.stderr)
    (line,) = ended.stderr.splitlines()
    assert "ran out of memory" in line
    assert advice in line


@pytest.mark.long
@pytest.mark.timeout(600)
def test_prepare(tmp_path: Path) -> None:
    starved("prepare", "lower data.image_size", tmp_path)


@pytest.mark.long
@pytest.mark.timeout(1600)
def test_the_other_stages(tmp_path: Path) -> None:
    done = pipeline("prepare", *SMALL, "--set", f"data.cache={tmp_path / 'shards'}", "--out", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    starved("condense", "lower condense.batch_real", tmp_path)
