"""The benchmarks run and print the expected fields."""

import json
import subprocess
import sys

import pytest

FIELDS = (
    "case",
    "device",
    "precision",
    "step_s",
    "encoder_s",
    "published_s",
    "step_over_encoder",
    "published_over_step",
    "peak_mib",
)


def printed(name: str, *arguments: str) -> list[dict[str, object]]:
    command = [sys.executable, "-W", "ignore", "-m", f"tests.benchmarks.{name}", "--json", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_step() -> None:
    lines = printed("step", "--cases", "digits_ipc1,cifar10_ipc1", "--rounds", "1")
    assert [line["case"] for line in lines] == ["digits_ipc1", "cifar10_ipc1"]
    assert all(set(FIELDS) <= set(line) for line in lines)
    assert all(float(str(line["peak_mib"])) > 10 for line in lines)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_evaluate() -> None:
    (line,) = printed("evaluate", "--seeds", "2", "--epochs", "1")
    assert float(str(line["together_over_one_by_one"])) > 0


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_ingest() -> None:
    (line,) = printed("ingest", "--images", "200", "--rounds", "1")
    assert float(str(line["prepare_over_bare"])) > 0


def test_an_unknown_case_is_refused() -> None:
    command = [sys.executable, "-m", "tests.benchmarks.step", "--cases", "cifar"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert "allowed: digits_ipc1" in done.stderr
