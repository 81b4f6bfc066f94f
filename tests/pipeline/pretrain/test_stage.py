"""The pretrain stage on Ray Train: rows and snapshots of a complete call, refusals, and real kills."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from ray.exceptions import GetTimeoutError

from pipeline.config.parsing import with_settings
from pipeline.config.presets import preset
from pipeline.errors import FailedError, UserError
from pipeline.evaluate import whole_set
from pipeline.evaluate.results import read_rows, write_rows
from pipeline.evaluate.rows import EvaluationRow
from pipeline.evaluate.whole_set import whole_set_row
from pipeline.formats.run_folder import RunFolder
from pipeline.pretrain import stage
from pipeline.pretrain.reader import read_experts
from pipeline.pretrain.stage import _sentence, pretrain
from pipeline.pretrain.training import RefusedError
from tests.pipeline.support.pretraining import free_port, one_of_two, task_of
from tests.pipeline.support.runs import prepared, small_config

SMALL = [
    *("--preset", "digits_ipc1", "--set", "data.image_size=8", "--set", "pretrain.architecture=convnet1"),
    *("--set", "pretrain.precision=float32"),
]


ENVIRONMENT = {**{k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}, "RAY_AUTH_MODE": "disabled"}


TIMEOUT_S = 400
"""Ray Train's start takes 10 s on a quiet machine, and minutes on a busy one."""


class _Failed(Exception):
    def __init__(self, **failures: Exception) -> None:
        self.worker_failures = failures


def test_errors_are_one_line() -> None:
    user_error = UserError("lower it")
    assert _sentence(_Failed(a=ValueError("gloo: closed"), b=user_error), 3) is user_error
    other = _sentence(_Failed(a=ValueError("gloo: closed\nat line 3")), 3)
    assert isinstance(other, FailedError)
    assert "failed 3 times, at last with ValueError: gloo: closed; repeat the command to resume" in str(other)


def test_a_mistake_stays_the_users_if_the_driver_does_not_take_the_message(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RefusedError("lower it")

    def in_vain(*_: object, timeout: float) -> None:
        raise GetTimeoutError(f"{timeout} s")

    context = SimpleNamespace(get_world_rank=lambda: 0, get_world_size=lambda: 1)
    monkeypatch.setattr("ray.train.get_context", lambda: context)
    monkeypatch.setattr("ray.get", in_vain)
    monkeypatch.setattr(stage, "assigned_device", lambda: torch.device("cpu"))
    monkeypatch.setattr(stage, "train_trajectories", refuse)
    events = SimpleNamespace(put=SimpleNamespace(remote=lambda event: None))
    heartbeat = SimpleNamespace(beating=contextlib.nullcontext)
    with pytest.raises(UserError, match=r"^lower it$"):
        stage._loop({"task": None, "events": events, "heartbeat": heartbeat})


def test_a_row_of_more_networks_answers_for_fewer(tmp_path: Path) -> None:
    manifest: Any = {"checksum": "of the manifest"}
    config = small_config("pretrain.trajectories=2")
    row = {"set": "whole", "architecture": config.pretrain.architecture, "protocol": "pretrain", "schedule": "pretrain"}
    row |= {"on": "test", "experts": "of the manifest", "seeds": [0, 1, 2]}
    folder = RunFolder.at(tmp_path)
    write_rows(folder, [cast(EvaluationRow, {**row, "mean": 90.0})])
    assert whole_set.stored_row(config, folder, manifest) is not None
    assert whole_set.stored_row(small_config("pretrain.trajectories=4"), folder, manifest) is None
    manifest["checksum"] = "of another"
    assert whole_set.stored_row(config, folder, manifest) is None


def test_refused_before_anything_is_started(call: Callable[..., Any], tmp_path: Path) -> None:
    for setting, word in (
        ("pretrain.architecture=convnet33", "did you mean"),
        ("pretrain.augment=twist", "pretrain.augment: given 'twist'"),
        ("pretrain.workers=200", "pretrain.batch, which is 128"),
        ("pretrain.epoch=3", "did you mean 'pretrain.epochs'?"),
        ("pretrain.gpus_per_worker=0.5", "allowed: 0 or 1"),
        ("pretrain.architecture=convnet8", "pretrain.architecture: convnet8 needs images of at least 256 px"),
    ):
        code, errors, _ = call("pretrain", "--preset", "digits_ipc1", "--set", setting, "--out", str(tmp_path / "out"))
        assert (code, len(errors)) == (2, 1)
        assert word in errors[0]
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.timeout(500)
def test_one_worker_and_two_agree(
    tmp_path: Path, ray_cluster: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("HEALTH_CHECK_INTERVAL_S", "ENABLE_PRINT_PATCH", "WORKER_GROUP_START_TIMEOUT_S"):
        monkeypatch.delenv(f"RAY_TRAIN_{name}", raising=False)
    monkeypatch.setenv("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
    settings = [
        "pretrain.architecture=convnet1",
        "pretrain.epochs=6",
        "pretrain.report_every=6",
        "pretrain.trajectories=3",
    ]
    rows: list[Any] = []
    for workers in (1, 2):
        config = small_config(*settings, f"pretrain.workers={workers}", "pretrain.precision=float32")
        dataset = prepared(config, tmp_path)
        out = str(tmp_path / str(workers))
        trained, shares = pretrain(config, RunFolder.at(out), dataset)
        rows.append(whole_set_row(config, RunFolder.at(out), dataset, trained, shares))
        assert read_rows(RunFolder.at(out)) == rows[-1:]
        assert (rows[-1]["set"], rows[-1]["schedule"], rows[-1]["epoch"]) == ("whole", "pretrain", "last")
        manifest = read_experts(RunFolder.at(out), "convnet1")
        assert manifest is not None
        assert manifest["checksum"] == rows[-1]["experts"]
        capsys.readouterr()
        trained, shares = pretrain(config, RunFolder.at(out), dataset)
        assert whole_set_row(config, RunFolder.at(out), dataset, trained, shares) == rows[-1]
        assert "finished before" in capsys.readouterr().out
    one, two = rows
    assert one["mean"] > 80
    assert abs(one["mean"] - two["mean"]) <= max(one["std"], two["std"], 1.0)


@contextlib.contextmanager
def driver_of(*arguments: str) -> "Iterator[subprocess.Popen[str]]":
    """The command line as a process, which ends with the test."""
    command = [sys.executable, "-m", "pipeline", "pretrain", *SMALL, *arguments]
    driver = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
    try:
        yield driver
    finally:
        driver.kill()
        driver.communicate(timeout=60)


def wait_for(condition: Callable[[], Any], driver: "subprocess.Popen[str]", what: str) -> Any:
    ends = time.monotonic() + TIMEOUT_S
    while not (value := condition()):
        assert driver.poll() is None, driver.communicate()
        assert time.monotonic() < ends, what
        time.sleep(0.05)
    return value


def events(out: Path, kind: str) -> list[dict[str, Any]]:
    path = out / "events.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [event for event in map(json.loads, lines) if event["event"] == kind]


def snapshots(out: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted((out / "experts" / "convnet1").glob("trajectory-*/*.safetensors"))]


def undisturbed(folder: Path, settings: list[str]) -> list[bytes]:
    """The snapshots of two undisturbed workers, connected without Ray; the class shards stay below the folder."""
    config = with_settings(preset("digits_ipc1"), [word for word in [*SMALL[2:], *settings] if "=" in word])
    dataset = prepared(config, folder)
    torch.multiprocessing.spawn(one_of_two, (task_of(config, RunFolder.at(folder), dataset), free_port()), nprocs=2)  # pyright: ignore[reportPrivateImportUsage]
    return snapshots(folder)


LONG = [
    *("--set", "pretrain.epochs=24", "--set", "pretrain.workers=2", "--set", "pretrain.cpus_per_worker=1"),
    *("--set", "pretrain.report_every=2", "--set", "pretrain.snapshot_every=8"),
]


@pytest.mark.slow
@pytest.mark.timeout(1000)
def test_a_worker_is_killed_and_training_resumes_from_the_checkpoint(tmp_path: Path) -> None:
    expected = undisturbed(tmp_path / "whole", LONG)
    out, cache = tmp_path / "out", tmp_path / "whole" / "class-shards"
    with driver_of(*LONG, "--set", f"data.cache={cache}", "--out", str(out)) as driver:
        wait_for(lambda: [e for e in events(out, "epoch") if e["epoch"] >= 4], driver, "no fourth epoch")
        (victim,) = [event["pid"] for event in events(out, "worker") if event["rank"] == 1]
        os.kill(victim, signal.SIGKILL)
        text, errors = driver.communicate(timeout=TIMEOUT_S)
    assert (driver.returncode, errors) == (0, "")
    assert "a worker was lost" in text
    first, second = (event["epoch"] for event in events(out, "begin"))
    assert first == 0
    assert 2 <= second < 24
    assert second % 2 == 0
    assert snapshots(out) == expected
    assert [row["set"] for row in read_rows(RunFolder.at(out))] == ["whole"]


@pytest.mark.slow
@pytest.mark.timeout(1000)
def test_a_driver_is_killed_and_the_same_command_resumes(tmp_path: Path) -> None:
    expected = undisturbed(tmp_path / "whole", LONG)
    out, cache = tmp_path / "out", tmp_path / "whole" / "class-shards"
    command = [*LONG, "--set", f"data.cache={cache}", "--out", str(out)]
    with driver_of(*command) as driver:
        wait_for(lambda: [e for e in events(out, "epoch") if e["epoch"] >= 4], driver, "no fourth epoch")
        driver.send_signal(signal.SIGKILL)
        driver.communicate(timeout=60)
    assert not (out / "experts" / "convnet1" / "manifest.json").exists()
    with driver_of(*command) as driver:
        text, errors = driver.communicate(timeout=TIMEOUT_S)
    assert (driver.returncode, errors) == (0, "")
    first, second = (event["epoch"] for event in events(out, "begin"))
    assert first == 0
    assert 2 <= second < 24
    assert f"seed 0 resumes after epoch {second}" in text
    assert snapshots(out) == expected


@pytest.mark.slow
@pytest.mark.timeout(500)
def test_a_loss_that_is_not_finite_is_not_retried(ray_cluster: None, call: Callable[..., Any], tmp_path: Path) -> None:
    out = tmp_path / "out"
    settings = ["--set", "pretrain.learning_rate=1e30", "--set", "pretrain.warmup=0", "--set", "pretrain.epochs=2"]
    code, errors, _ = call("pretrain", *SMALL, *settings, "--out", str(out))
    assert (code, len(errors)) == (2, 1)
    assert "is not finite; lower pretrain.learning_rate" in errors[0]
    assert len(events(out, "worker")) == 1
    code, errors, _ = call("pretrain", *SMALL, "--set", "pretrain.epochs=2", "--out", str(out))
    assert (code, errors) == (0, [])  # as the message advises


@pytest.mark.slow
@pytest.mark.timeout(1000)
def test_an_interrupt_ends_it_in_one_line(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with driver_of("--set", "pretrain.epochs=5000", "--set", "pretrain.report_every=50", "--out", str(out)) as driver:
        wait_for(lambda: events(out, "epoch"), driver, "no epoch")
        driver.send_signal(signal.SIGINT)
        _, errors = driver.communicate(timeout=120)
    assert driver.returncode == 130
    assert errors.splitlines() == ["interrupted; repeat the command to resume"]
    assert not (out / "lease.json").exists()
