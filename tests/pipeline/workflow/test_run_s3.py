"""Complete runs from a bucket to a bucket, each as its own process: failing requests, kills, and a bucket that becomes read-only."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline import storage
from pipeline.formats.condensed_reader import load_condensed
from tests.pipeline.support.images import write_folder
from tests.pipeline.support.s3_service import SECRET, Proxy, environment
from tests.pipeline.support.source_formats import upload

SMALL = [
    *("--preset", "tiny_imagenet_ipc1", "--set", "data.source=image_folder", "--set", "data.image_size=16"),
    *("--set", "encoder.name=convnet2", "--set", "encoder.width=8", "--set", "condense.batch_real=8"),
    *("--set", "evaluate.architectures=convnet1", "--set", "evaluate.epochs=2", "--set", "evaluate.seeds=1"),
    *("--set", "resources.checkpoint_every=5", "--set", "resources.classes_per_group=2"),
]
TIMEOUT_S = 200


@pytest.fixture
def data(bucket: str, tmp_path: Path) -> str:
    """A bucket whose folder ``tin`` has 4 classes in train and val."""
    classes = ("n01440764", "n02102040", "n03888257", "n03445777")
    upload(write_folder(tmp_path / "images", {"train": 12, "val": 4}, classes=classes, size=20), f"{bucket}/tin")
    return bucket


def surroundings(endpoint: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS" and not name.startswith("AWS_")}
    return {**kept, **environment(endpoint), "RAY_AUTH_MODE": "disabled"}


def command(bucket: str, name: str, tmp_path: Path, *arguments: str) -> list[str]:
    paths = ["--data", f"{bucket}/tin", "--out", f"{bucket}/{name}", "--set", f"data.disk_cache={tmp_path / 'copies'}"]
    return [sys.executable, "-m", "pipeline", "run", *SMALL, *paths, *arguments]


def run(bucket: str, name: str, endpoint: str, tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(bucket, name, tmp_path, *arguments),
        capture_output=True,
        text=True,
        env=surroundings(endpoint),
        timeout=TIMEOUT_S,
        cwd=Path(__file__).parents[3],
    )


def condensed_bytes(out: str) -> list[bytes]:
    names = storage.files_below(f"{out}/condensed")
    assert "manifest.json" in names
    return [storage.read_bytes(f"{out}/condensed/{name}") for name in names if name.endswith(".arrow")]


@pytest.fixture
def short() -> list[str]:
    return ["--set", "condense.iterations=30"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_survives_failing_requests(
    data: str, proxy: Proxy, tmp_path: Path, short: list[str], service: object
) -> None:
    calm = run(data, "calm", os.environ["AWS_ENDPOINT_URL"], tmp_path, *short)
    assert calm.returncode == 0, calm.stderr
    files = storage.files_below(f"{data}/calm")
    assert {"config.json", "evaluation.json", "events.jsonl", "grid.png", "metrics.jsonl", "report.html"} <= set(files)
    assert "lease.json" not in files
    assert load_condensed(f"{data}/calm").class_names == ["tench", "English springer", "golf ball", "parachute"]
    proxy.faults.share, proxy.faults.kinds = 0.2, ("500", "503", "reset", "cut")
    harmed = run(data, "harmed", proxy.endpoint, tmp_path, *short)
    assert harmed.returncode == 0, harmed.stderr
    assert condensed_bytes(f"{data}/harmed") == condensed_bytes(f"{data}/calm")
    retries = re.search(r"(\d+) requests to the storage were sent again", harmed.stdout)
    assert retries
    assert 0 < int(retries[1]) <= len(proxy.faults.made)
    for text in (harmed.stdout, harmed.stderr, *map(str, everything(f"{data}/harmed"))):
        assert SECRET not in text


def everything(out: str) -> list[bytes]:
    """The contents of all files directly in a run's folder."""
    return [storage.read_bytes(f"{out}/{name}") for name in storage.files_below(out)]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_killed_driver_resumes_with_the_same_command(data: str, tmp_path: Path) -> None:
    endpoint, long = os.environ["AWS_ENDPOINT_URL"], ["--set", "condense.iterations=400"]
    undisturbed = run(data, "undisturbed", endpoint, tmp_path, *long)
    assert undisturbed.returncode == 0, undisturbed.stderr
    log = open(tmp_path / "log", "w")  # noqa: SIM115 (closed below)
    first = subprocess.Popen(
        command(data, "killed", tmp_path, *long),
        env=surroundings(endpoint),
        stdout=log,
        stderr=log,
        start_new_session=True,
        cwd=Path(__file__).parents[3],
    )
    try:
        ends = time.monotonic() + TIMEOUT_S
        while not [n for n in storage.files_below(f"{data}/killed/checkpoints") if n.endswith(".safetensors")]:
            assert first.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < ends
            time.sleep(0.05)
        os.killpg(first.pid, signal.SIGKILL)
        first.wait(timeout=30)
    finally:
        log.close()
        if first.poll() is None:
            os.killpg(first.pid, signal.SIGKILL)
    assert not storage.exists(f"{data}/killed/condensed/manifest.json")
    again = run(data, "killed", endpoint, tmp_path, *long)
    assert again.returncode == 0, again.stderr
    assert condensed_bytes(f"{data}/killed") == condensed_bytes(f"{data}/undisturbed")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_read_only_bucket_ends_the_run_with_one_line(data: str, proxy: Proxy, tmp_path: Path) -> None:
    proxy.faults.share, proxy.faults.kinds, proxy.faults.methods = 1.0, ("403",), ("PUT", "POST")
    proxy.faults.containing = "checkpoints"
    ended = run(data, "refused", proxy.endpoint, tmp_path, "--set", "condense.iterations=100")
    assert ended.returncode == 2
    assert len(ended.stderr.splitlines()) == 1, ended.stderr
    assert "access is denied (AccessDenied)" in ended.stderr


def test_a_missing_bucket_is_reported_before_anything_starts(bucket: str, tmp_path: Path) -> None:
    endpoint = os.environ["AWS_ENDPOINT_URL"]
    for place in ([bucket, "s3://absent-bucket/x"], ["s3://absent-bucket/x", bucket]):
        words = [sys.executable, "-m", "pipeline", "run", *SMALL, "--data", place[0], "--out", place[1]]
        ended = subprocess.run(words, capture_output=True, text=True, env=surroundings(endpoint), timeout=120)
        assert ended.returncode == 2
        assert len(ended.stderr.splitlines()) == 1
        assert "there is no bucket 'absent-bucket'" in ended.stderr
