"""Jobs on real clusters of several nodes on this machine."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.local import lifecycle, state, token
from pipeline.observability.prometheus import NAMES, OF_A_STAGE
from tests.cluster.conftest import ROOT, TIMEOUT_S, cluster, environment, local_cluster, one_line
from tests.pipeline.support.runs import condensed_bytes

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SETTINGS = {
    "data.image_size": 8,
    "encoder.name": "convnet2",
    "encoder.width": 8,
    "condense.batch_real": 32,
    "condense.compile": "off",
    "condense.precision": "float32",
    "condense.log_every": 10,
    "evaluate.architectures": "convnet1",
    "evaluate.epochs": 2,
    "evaluate.seeds": 1,
    "evaluate.compile": "off",
    "resources.classes_per_group": 1,
    "resources.cpus_per_actor": 1,
    "resources.checkpoint_every": 50,
}
ITERATIONS = 1000
"""Enough that ten groups take far longer than the start of the last actor, even on a busy machine."""
TOKEN = "correct-horse-battery-staple"


def words(command: str, out: Path, iterations: int = ITERATIONS, **settings: Any) -> list[str]:
    changes = {
        **SETTINGS,
        "condense.iterations": iterations,
        **{key.replace("__", "."): value for key, value in settings.items()},
    }
    flags = [part for key, value in changes.items() for part in ("--set", f"{key}={value}")]
    return [command, "--preset", "digits_ipc10", *flags, "--out", str(out)]


def lines(path: Path) -> list[dict[str, Any]]:
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def events(out: Path, kind: str) -> list[dict[str, Any]]:
    return [event for event in lines(out / "events.jsonl") if event["event"] == kind]


def until(condition: Callable[[], Any], what: str, seconds: float = 120.0) -> Any:
    """The condition's value, as soon as it is true."""
    ends = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < ends, f"{what} did not happen within {seconds:g} s"
        time.sleep(0.1)
    return value


@pytest.fixture(scope="module")
def three() -> Iterator[tuple[str, Path]]:
    """Three nodes of one CPU each."""
    with local_cluster("--nodes", "3", "--cpus", "1", RAY_metrics_report_interval_ms="1000") as started:
        yield started


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """The condensed shards of a run without a cluster, of the same settings."""
    out = tmp_path_factory.mktemp("local") / "run"
    command = [sys.executable, "-m", "pipeline", *words("condense", out)]
    alone = environment(RAY_AUTH_MODE="disabled")  # otherwise Ray would write a token to the home folder
    done = subprocess.run(command, capture_output=True, text=True, env=alone, timeout=TIMEOUT_S, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    shards = condensed_bytes(out)
    assert len(shards) == 10
    return shards


@contextlib.contextmanager
def submitted(address: str, *arguments: str, **more: str) -> "Iterator[subprocess.Popen[str]]":
    """A ``submit`` that runs while the test continues."""
    command = [sys.executable, "-m", "cluster", "submit", "--address", address, *arguments]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(**more), cwd="/tmp"
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def test_a_run_spreads_over_the_nodes_and_gives_the_bytes_of_a_local_one(
    three: tuple[str, Path], expected: list[bytes], tmp_path: Path
) -> None:
    address, _ = three
    done = cluster("submit", "--address", address, "--", *words("run", tmp_path / "out"))
    assert done.returncode == 0, done.stdout + done.stderr
    output = done.stdout.splitlines()
    assert re.fullmatch(rf"job m3d-run-out-[0-9a-f]{{8}}: submitted to {address}, \d\.\d MiB of code", output[0])
    assert output[-1] == f"{output[0].split(':')[0]}: succeeded"
    assert any("condense: 10 groups of up to 1 classes" in line for line in output)
    finished = events(tmp_path / "out", "done")
    assert sorted(event["group"] for event in finished) == list(range(10))
    assert len({event["node"] for event in finished}) == 3
    assert condensed_bytes(tmp_path / "out") == expected
    # The uploaded code ran, not that of the nodes: it is not a checkout.
    assert json.loads((tmp_path / "out" / "config.json").read_text())["commit"] is None
    assert (tmp_path / "out" / "report.html").exists()

    job = output[0].split()[1].rstrip(":")
    assert f"job {job}: SUCCEEDED" in cluster("status", "--address", address, job).stdout
    assert "report.html" in cluster("logs", "--address", address, job).stdout
    listed = cluster("list", "--address", address).stdout.splitlines()
    assert any(line.startswith(f"{job}  SUCCEEDED") for line in listed)
    again = cluster("submit", "--address", address, "--", *words("run", tmp_path / "out"))
    assert again.returncode == 0
    assert f"job {job}-2: submitted" in again.stdout
    assert "nothing to do" in again.stdout
    assert one_line(cluster("status", "--address", address, "no-such-job")).startswith(
        f"error: no-such-job: is not a job of {address}; python -m cluster list shows all jobs"
    )


def test_a_job_that_fails_gives_its_exit_code(three: tuple[str, Path], tmp_path: Path) -> None:
    address, _ = three
    done = cluster("submit", "--address", address, "--", "evaluate", str(tmp_path / "nothing"))
    assert one_line(done).endswith("failed with exit code 2; the last lines of its output say why")
    assert "error: " in done.stdout


def test_a_running_job_is_measured_and_stopped(
    three: tuple[str, Path], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    address, folder = three
    out = tmp_path / "out"
    command = words("condense", out, 100_000, resources__checkpoint_every=200)
    done = cluster("submit", "--address", address, "--no-wait", "--", *command)
    assert done.returncode == 0, done.stderr
    job = done.stdout.split()[1].rstrip(":")
    request.addfinalizer(
        lambda: cluster("stop", "--address", address, job)
    )  # otherwise it would keep the CPUs of the other tests
    until(lambda: list((out / "checkpoints").glob("*.safetensors")), "the first checkpoint")

    exported = {f"ray_{name}" + ("_total" if name == "m3d_retries" else "") for name in NAMES}
    local = state.load(folder)
    assert local
    actor = until(lambda: [pid for pid in state.processes(local) if "ray::group" in title(pid)], "an actor")[0]
    os.kill(actor, signal.SIGKILL)  # so that a group is restarted
    rate = "ray_m3d_iterations_per_second"  # 0 until the first iterations are reported
    metrics = until(
        lambda: (m := scraped(local)).keys() >= exported and max(m[rate].values()) > 0 and m, "all metrics, and a rate"
    )
    run = json.loads((out / "events.jsonl").read_text().splitlines()[0])["run"]
    assert run.startswith("out-")
    of_a_stage = {f"ray_{name}" for name in OF_A_STAGE}
    assert all(f'run="{run}"' in labels for name in exported - of_a_stage for labels in metrics[name])
    assert any(
        'out="out"' in labels and 'stage="condense"' in labels for name in of_a_stage for labels in metrics[name]
    )
    assert set(metrics["ray_m3d_groups"].values()) == {10.0}
    assert max(metrics["ray_m3d_retries_total"].values()) >= 1
    assert all('group="' in labels for labels in metrics["ray_m3d_loss"])

    twice = cluster("submit", "--address", address, "--no-wait", "--", *command)
    assert f"job {job}: this command is already running at {address}; it is not started twice" in twice.stdout
    stopped = cluster("stop", "--address", address, job)
    assert stopped.returncode == 0
    assert stopped.stdout == f"job {job}: was stopped; submit the same command again to resume\n"
    assert not (out / "lease.json").exists()  # it ended by itself, after saving
    assert "had already ended (STOPPED)" in cluster("stop", "--address", address, job).stdout
    followed = cluster("logs", "--address", address, "--follow", job)
    assert one_line(followed, 130).endswith("was stopped; submit the same command again to resume")
    assert "interrupted: checkpoints are saved" in followed.stdout


def title(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text()
    return ""


def scraped(local: state.LocalCluster) -> dict[str, dict[str, float]]:
    """Metrics of all nodes by name, with their labels and values."""
    metrics: dict[str, dict[str, float]] = {}
    for node in local.living().nodes:
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(f"http://127.0.0.1:{node.metrics_port}/metrics", timeout=5) as answer,
        ):
            for line in answer.read().decode().splitlines():
                if match := re.fullmatch(r"(ray_m3d_\w+)\{(.*)\} (\S+)", line):
                    metrics.setdefault(match[1], {})[match[2]] = float(match[3])
    return metrics


def test_an_interrupt_leaves_the_job_or_stops_it(three: tuple[str, Path], tmp_path: Path) -> None:
    address, _ = three
    out = tmp_path / "out"
    command = words("condense", out, 100_000)
    with submitted(address, "--", *command) as process:
        until(lambda: list((out / "checkpoints").glob("*.safetensors")), "the first checkpoint")
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=90)
    job = output.split()[1].rstrip(":")
    assert process.returncode == 130
    assert errors.splitlines()[-1].startswith(f"job {job}: keeps running; follow it with: python -m cluster logs")
    assert "RUNNING" in cluster("status", "--address", address, job).stdout

    with submitted(address, "--stop-on-interrupt", "--", *command) as process:
        assert process.stdout
        assert "it is not started twice" in process.stdout.readline()
        process.stdout.readline()  # of the job: it is followed
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=90)
    assert process.returncode == 130
    assert errors.splitlines()[-1] == f"job {job}: was stopped; submit the same command again to resume"


def test_plain_ray_job_submit_works_and_so_does_the_line_of_dry_run(three: tuple[str, Path], tmp_path: Path) -> None:
    address, folder = three
    binaries = str(Path(sys.executable).parent)
    more = environment(PATH=f"{binaries}:{os.environ['PATH']}")
    plain = ["ray", "job", "submit", "--address", address, "--working-dir", ".", "--", "python", "-m", "pipeline"]
    done = subprocess.run(
        [*plain, *words("condense", tmp_path / "plain", 5)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**more, **token.variables(folder)},
        timeout=TIMEOUT_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "plain" / "condensed" / "manifest.json").exists()
    dry = cluster("submit", "--address", address, "--dry-run", "--", *words("prepare", tmp_path / "dry"))
    done = subprocess.run(
        dry.stdout, shell=True, capture_output=True, text=True, cwd=tmp_path, env=more, timeout=TIMEOUT_S
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert list((tmp_path / "dry" / "class-shards").glob("*/manifest.json"))


def test_a_node_dies_and_another_joins(three: tuple[str, Path], expected: list[bytes], tmp_path: Path) -> None:
    address, folder = three
    out = tmp_path / "out"
    with submitted(address, "--", *words("condense", out)) as process:
        until(lambda: len({event["node"] for event in events(out, "ready")}) == 3, "three actors")
        until(lambda: list((out / "checkpoints").glob("*.safetensors")), "the first checkpoint")
        local = state.load(folder)
        assert local
        before = {event["node"] for event in events(out, "ready")}
        lifecycle.remove(local, local.nodes[-1], folder)
        until(lambda: any(event["group"] is None for event in events(out, "lost")), "a lost actor")
        with still(local):  # otherwise the others might finish before the new node has joined
            more = cluster("up-local", "--folder", str(folder), "--nodes", "3", "--cpus", "1")
            assert (more.returncode, more.stdout.strip()) == (0, address), more.stderr
            until(lambda: {event["node"] for event in events(out, "ready")} - before, "an actor on the new node")
        output, errors = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0, output + errors
    assert "an actor was lost" in output
    assert "[state-dump]" not in output  # pages of Ray about a dead node
    assert condensed_bytes(out) == expected
    joined = {event["node"] for event in events(out, "done")} - before
    assert len(joined) == 1


@contextlib.contextmanager
def still(local: state.LocalCluster) -> Iterator[None]:
    """Suspends the actors of the living nodes."""
    named = ("ray::group", "ray::CondenseActor")
    actors = [pid for pid in state.processes(local) if any(name in title(pid) for name in named)]
    assert actors
    for pid in actors:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in actors:
            os.kill(pid, signal.SIGCONT)


@pytest.fixture(scope="module")
def gpus() -> Iterator[tuple[str, Path]]:
    """Two nodes of two CPUs and two logical GPUs each, which require a token."""
    with local_cluster(
        "--nodes", "2", "--cpus", "2", "--gpus", "2", RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=TOKEN
    ) as started:
        yield started


def test_every_gpu_has_one_actor_and_a_token_is_required(gpus: tuple[str, Path], tmp_path: Path) -> None:
    address, _ = gpus
    # Long enough that the slowest of four actors has started before the work is done.
    command = words("condense", tmp_path / "out", 800, resources__classes_per_group=2)
    wrong = cluster("submit", "--address", address, "--", *command, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="wrong" * 4)
    assert one_line(wrong).startswith(f"error: {address}: refuses the token; set RAY_AUTH_MODE=token")
    assert "wrong" * 4 not in wrong.stdout + wrong.stderr
    none = cluster("submit", "--address", address, "--", *command, RAY_AUTH_MODE="disabled")
    assert one_line(none).startswith(f"error: {address}: requires a token, but none was given")

    done = cluster("submit", "--address", address, "--", *command, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=TOKEN)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "on 4 actors with 1 CPUs and 1 GPUs each" in done.stdout
    ready = events(tmp_path / "out", "ready")
    assert len(ready) == 4
    assert all(event["gpus"] == [event["visible"]] for event in ready)
    assert len({event["visible"] for event in ready}) == 4
    assert sorted(map(len, _by_node(ready).values())) == [2, 2]
    kept = "".join(path.read_text() for path in (tmp_path / "out").glob("*.json*"))
    job = done.stdout.split()[1].rstrip(":")
    shown = cluster("logs", "--address", address, job, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=TOKEN)
    assert "condensed set" in shown.stdout
    assert TOKEN not in kept + shown.stdout + done.stdout + done.stderr


def _by_node(ready: list[dict[str, Any]]) -> dict[str, list[str]]:
    devices: dict[str, list[str]] = {}
    for event in ready:
        devices.setdefault(event["node"], []).append(event["visible"])
    return devices


def test_two_clusters_live_side_by_side_and_each_is_stopped_alone(three: tuple[str, Path]) -> None:
    with local_cluster("--nodes", "1") as (other, beside):
        local = state.load(beside)
        assert local
        assert len(local.living().nodes) == 1
        repeated = cluster("up-local", "--folder", str(beside), "--nodes", "1")
        assert repeated.stdout.strip() == other
        done = cluster("down-local", "--folder", str(beside))
        assert done.stdout == f"{beside}: 1 node is stopped\n"
        assert state.processes(local) == set()
        assert "does not answer (" in one_line(cluster("list", "--address", other))
    assert cluster("list", "--address", three[0]).returncode == 0
