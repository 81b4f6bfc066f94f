"""An actor of ``condense`` is stopped before it is ready."""

from pathlib import Path

import pytest

from tests.pipeline.support.stalls import pipeline, stopped_once, worker

SMALL = [
    *("--preset", "digits_ipc1", "--set", "data.image_size=8", "--set", "condense.iterations=30"),
    *("--set", "condense.precision=float32", "--set", "resources.stall_s=30"),
    *("--set", "resources.actors=1"),
]


def shards(out: Path) -> dict[str, bytes]:
    """The condensed shards."""
    return {path.name: path.read_bytes() for path in sorted((out / "condensed").glob("*.arrow"))}


@pytest.mark.long
@pytest.mark.timeout(1100)
def test_an_actor_that_is_stopped_before_it_is_ready_is_replaced(tmp_path: Path) -> None:
    cache = ["--set", f"data.cache={tmp_path / 'shards'}"]
    done = pipeline("prepare", *SMALL, *cache, "--out", str(tmp_path / "undisturbed"))
    assert done.returncode == 0, done.stderr
    command = ["condense", *SMALL, *cache, "--out"]
    ended = stopped_once(*command, str(tmp_path / "stalled"), victim=worker("CondenseActor"), folder=tmp_path)
    assert (ended.code, ended.errors, ended.victims) == (0, "", 1)
    assert '"why": "silent for 60 s"' in (tmp_path / "stalled" / "events.jsonl").read_text()
    done = pipeline(*command, str(tmp_path / "undisturbed"))
    assert done.returncode == 0, done.stderr
    assert shards(tmp_path / "stalled") == shards(tmp_path / "undisturbed")
    assert shards(tmp_path / "stalled")
