"""Complete runs through the command line, each as its own process."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pytest

SMALL = [
    *("--preset", "digits_ipc1", "--set", "data.image_size=8", "--set", "encoder.name=convnet2"),
    *("--set", "encoder.width=8", "--set", "condense.iterations=60", "--set", "condense.batch_real=32"),
    *("--set", "evaluate.architectures=convnet1", "--set", "evaluate.epochs=5", "--set", "evaluate.seeds=2"),
]
ENVIRONMENT = {**{k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}, "RAY_AUTH_MODE": "disabled"}
TIMEOUT_S = 150


def pipeline(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipeline", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=TIMEOUT_S)


def condensed_bytes(out: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted((out / "condensed").iterdir())]


@pytest.mark.slow
@pytest.mark.smoke
@pytest.mark.timeout(500)
def test_a_new_run_and_the_same_command_again(tmp_path: Path) -> None:
    out = tmp_path / "run"
    first = pipeline("run", *SMALL, "--out", str(out))
    assert first.returncode == 0, first.stderr
    expected = {
        "config.json",
        "checkpoints",
        "class-shards",
        "condensed",
        "snapshots",
        "evaluation.json",
        "evolution.webp",
        "grid.png",
        "report.html",
        "metrics.jsonl",
        "events.jsonl",
        "tensorboard",
    }
    assert {path.name for path in out.iterdir()} == expected
    rows = json.loads((out / "evaluation.json").read_text())["results"]
    assert [row["set"] for row in rows] == ["condensed", "random", "mosaic"]
    assert "cut from train" in first.stdout

    names = sorted(path.name for path in (out / "condensed").iterdir())
    assert names[0] == "manifest.json"
    assert all(name.startswith("shard-") for name in names[1:])
    table = pa.ipc.open_file(out / "condensed" / names[1]).read_all()
    assert table.column_names == ["image", "label", "wnid", "class_name", "ipc_index"]

    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    second = pipeline("run", "--config", str(out / "config.json"), "--out", str(out))
    assert second.returncode == 0, second.stderr
    assert "finished; nothing to do" in second.stdout
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()} == before

    other = pipeline("run", *SMALL, "--set", "condense.iterations=61", "--out", str(out))
    assert other.returncode == 2
    assert "condense.iterations" in other.stderr
    assert len(other.stderr.splitlines()) == 1


@pytest.mark.slow
@pytest.mark.timeout(500)
def test_the_same_seed_gives_the_same_bytes_and_another_does_not(tmp_path: Path) -> None:
    cache = ["--set", f"data.cache={tmp_path / 'shards'}"]
    for name, extra in (("a", []), ("b", []), ("c", ["--set", "seed=1"])):
        done = pipeline("condense", *SMALL, *cache, *extra, "--out", str(tmp_path / name))
        assert done.returncode == 0, done.stderr
    a, b, c = (condensed_bytes(tmp_path / name)[1:] for name in "abc")
    assert a == b
    assert a != c


@pytest.mark.slow
@pytest.mark.timeout(500)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_driver_that_is_killed_half_way_resumes(tmp_path: Path, number: signal.Signals) -> None:
    settings = [*SMALL, "--set", "condense.iterations=1200", "--set", f"data.cache={tmp_path / 'shards'}"]
    settings += ["--set", "resources.checkpoint_every_s=0.3"]
    undisturbed = pipeline("condense", *settings, "--out", str(tmp_path / "undisturbed"))
    assert undisturbed.returncode == 0, undisturbed.stderr
    out = tmp_path / "killed"
    command = [sys.executable, "-m", "pipeline", "condense", *settings, "--out", str(out)]
    driver = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
    try:
        _wait_for_checkpoint(out, driver)
        driver.send_signal(number)
        _, said = driver.communicate(timeout=60)
    finally:
        driver.kill()
    assert driver.returncode == (130 if number != signal.SIGKILL else -signal.SIGKILL)
    if number != signal.SIGKILL:
        assert said.splitlines() == ["interrupted: checkpoints are saved; repeat the command to resume"]
    assert not (out / "condensed").exists()
    again = pipeline("condense", *settings, "--out", str(out))
    assert again.returncode == 0, again.stderr
    assert condensed_bytes(out)[1:] == condensed_bytes(tmp_path / "undisturbed")[1:]


def _wait_for_checkpoint(out: Path, driver: "subprocess.Popen[str]") -> None:
    ends = time.monotonic() + TIMEOUT_S
    while not list((out / "checkpoints").glob("*.safetensors")):
        assert driver.poll() is None, driver.communicate()
        assert time.monotonic() < ends, "no checkpoint appeared"
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_an_interrupted_evaluation_resumes(tmp_path: Path) -> None:
    out = tmp_path / "run"
    settings = [*SMALL, "--set", "evaluate.epochs=40", "--set", "evaluate.architectures=convnet2"]
    assert pipeline("condense", *settings, "--out", str(out)).returncode == 0
    command = [sys.executable, "-m", "pipeline", "run", *settings, "--out", str(out)]
    driver = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
    try:
        ends = time.monotonic() + TIMEOUT_S
        while not (out / "evaluation.json").exists():
            assert driver.poll() is None, driver.communicate()
            assert time.monotonic() < ends, "no row appeared"
            time.sleep(0.02)
        driver.send_signal(signal.SIGTERM)
        _, said = driver.communicate(timeout=60)
    finally:
        driver.kill()
    assert driver.returncode == 130
    assert said.splitlines() == ["interrupted; repeat the command to resume"]
    assert not (out / "lease.json").exists()
    again = pipeline("run", *settings, "--out", str(out))
    assert again.returncode == 0, again.stderr
    assert "rows were evaluated before" in again.stdout
    rows = json.loads((out / "evaluation.json").read_text())["results"]
    assert sorted(row["set"] for row in rows) == ["condensed", "mosaic", "random"]
