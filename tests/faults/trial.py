"""One fault trial: a short run on real digits, one real kill at a random moment, and the outcome."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

CHECKPOINT_EVERY = 40
KINDS = ("actor", "node", "driver")
PHASES = ("before", "after")
"""When the kill comes: before or after the first checkpoint of any group."""
GROUPS = 4
LATEST = 0.6
"""Latest share of all iterations at which a kill after the first checkpoint comes. The rest is left to do, however fast the machine is."""
SETTINGS = {
    "data.image_size": 8,
    "encoder.name": "convnet2",
    "encoder.width": 8,
    "condense.iterations": 400,
    "condense.batch_real": 32,
    "condense.log_every": 10,
    "condense.precision": "float32",
    "resources.classes_per_group": 3,
    "resources.actors": 2,
    "resources.cpus_per_actor": 0.5,
    "resources.checkpoint_every": CHECKPOINT_EVERY,
}
TIMEOUT_S = 180.0


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The outcome of one trial."""

    trial: int
    kind: str
    phase: str
    killed_after_s: float
    killed: bool
    """Whether there was still a process or node to kill."""
    finished: bool
    reruns: int
    identical: bool
    repeated: int
    """Largest number of iterations that a group repeated: the last one reported before the kill minus the one resumed at."""
    seconds: float
    said: str
    """Last line of stderr of a failed run, else empty."""

    @property
    def passed(self) -> bool:
        """Whether the run was killed, finished with the same bytes, and repeated no more than one checkpoint interval."""
        return self.killed and self.finished and self.identical and self.repeated <= CHECKPOINT_EVERY

    def as_dict(self) -> dict[str, Any]:
        """The outcome as plain values."""
        return asdict(self)


def command(out: Path, cache: Path) -> list[str]:
    """The command of a trial, which is also the command that resumes it."""
    settings = [f"{key}={json.dumps(value)}" for key, value in {**SETTINGS, "data.cache": str(cache)}.items()]
    flags = [part for setting in settings for part in ("--set", setting)]
    return [sys.executable, "-m", "pipeline", "condense", "--preset", "digits_ipc1", *flags, "--out", str(out)]


def environment(address: str | None) -> dict[str, str]:
    """Environment of a driver that joins the cluster at ``address``, or starts its own."""
    kept = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    return {**kept, "RAY_AUTH_MODE": "disabled", **({"RAY_ADDRESS": address} if address else {})}


def shards(out: Path) -> list[bytes]:
    """Bytes of the committed shards in the order of the manifest; empty without a manifest."""
    manifest = out / "condensed" / "manifest.json"
    if not manifest.exists():
        return []
    entries = json.loads(manifest.read_text())["shards"]
    return [(out / "condensed" / entry["file"]).read_bytes() for entry in entries]


def undisturbed(out: Path, cache: Path) -> list[bytes]:
    """Runs the command without a kill and returns its shards."""
    done = subprocess.run(command(out, cache), capture_output=True, text=True, env=environment(None), timeout=TIMEOUT_S)
    if done.returncode != 0:
        raise RuntimeError(f"the undisturbed run failed: {done.stderr}")
    return shards(out)


def run_trial(
    number: int, folder: Path, cache: Path, expected: list[bytes], cluster: "Any | None", kind: str
) -> Outcome:
    """Starts a run, kills ``kind``, lets the run finish and compares its shards. A killed driver is started once more.

    Args:
        number: number of the trial; every random choice follows from it.
        folder: folder of all trials.
        cache: class shards that all trials share.
        expected: shards of the undisturbed run.
        cluster: a ray.cluster_utils.Cluster, one of whose worker nodes is killed if ``kind`` is node.
        kind: what is killed, one of KINDS.
    """
    chance = random.Random(number)
    phase = PHASES[number // len(KINDS) % 2]
    out = folder / f"trial-{number:03d}"
    shutil.rmtree(out, ignore_errors=True)
    began = time.monotonic()
    address = cluster.address if cluster is not None else None
    driver = subprocess.Popen(
        command(out, cache), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment(address)
    )
    reruns, said = 0, ""
    try:
        _wait_until(phase, chance.uniform(0, LATEST), out, driver)
        time.sleep(chance.uniform(0, 0.1))
        killed_after = time.monotonic() - began
        killed = _kill(kind, out, driver, cluster, chance)
        _, said = driver.communicate(timeout=TIMEOUT_S)
        code = driver.returncode
        if kind == "driver":
            reruns = 1
            again = subprocess.run(
                command(out, cache), capture_output=True, text=True, env=environment(address), timeout=TIMEOUT_S
            )
            code, said = again.returncode, again.stderr
    finally:
        if driver.poll() is None:
            driver.kill()
            driver.wait()
    return Outcome(
        trial=number,
        kind=kind,
        phase=phase,
        killed_after_s=round(killed_after, 2),
        killed=killed,
        finished=code == 0,
        reruns=reruns,
        identical=bool(expected) and shards(out) == expected,
        repeated=repeated_iterations(out),
        seconds=round(time.monotonic() - began, 1),
        said=(said.strip().splitlines() or [""])[-1] if code else "",
    )


def repeated_iterations(out: Path) -> int:
    """Largest number of iterations that a group repeated after resuming, according to the run's own logs."""
    events = _lines(out / "events.jsonl")
    metrics = _lines(out / "metrics.jsonl")
    most = 0
    begins: dict[int, list[dict[str, Any]]] = {}
    for event in events:
        if event["event"] == "begin":
            begins.setdefault(event["group"], []).append(event)
    for group, starts in begins.items():
        for start in starts[1:]:
            before = [m["iteration"] for m in metrics if m["group"] == group and m["time"] < start["time"]]
            most = max(most, max(before, default=0) - start["iteration"])
    return most


def done_share(out: Path) -> float:
    """Share of all groups' iterations that the run's log reports as done, from 0 to 1."""
    reached: dict[int, int] = {}
    for line in _lines(out / "metrics.jsonl"):
        reached[line["group"]] = max(line["iteration"], reached.get(line["group"], 0))
    return sum(reached.values()) / (GROUPS * int(SETTINGS["condense.iterations"]))


def _lines(path: Path) -> list[dict[str, Any]]:
    entries = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            entries.append(json.loads(line))
        except json.JSONDecodeError:
            continue  # the line that a killed driver was writing
    return entries


def _wait_until(phase: str, share: float, out: Path, driver: "subprocess.Popen[str]") -> None:
    """Waits until it is time to kill.

    With phase before, until the first actor is ready. With phase after, until the first checkpoint is written and
    ``share`` of all iterations is done.
    """
    ends = time.monotonic() + TIMEOUT_S
    while True:
        if phase == "after" and list((out / "checkpoints").glob("*.safetensors")) and done_share(out) >= share:
            return
        if phase == "before" and any(event["event"] == "ready" for event in _lines(out / "events.jsonl")):
            return
        if driver.poll() is not None:
            raise RuntimeError(f"the run ended before it could be killed: {driver.communicate()[1]}")
        if time.monotonic() > ends:
            raise TimeoutError(f"nothing to kill after {TIMEOUT_S:g} s")
        time.sleep(0.02)


def _kill(kind: str, out: Path, driver: "subprocess.Popen[str]", cluster: "Any | None", chance: random.Random) -> bool:
    """Kills an actor, a node or the driver. Returns whether there was one to kill."""
    if kind == "driver":
        alive = driver.poll() is None
        driver.send_signal(signal.SIGKILL)
        return alive
    if kind == "node":
        assert cluster is not None
        node = chance.choice(sorted(cluster.worker_nodes, key=lambda node: node.unique_id))
        alive = driver.poll() is None
        cluster.remove_node(node, allow_graceful=False)
        return alive
    # The name of a process changes with its work, so the run's own log tells which processes are actors.
    pids = {event["pid"] for event in _lines(out / "events.jsonl") if event["event"] == "ready"}
    actors = [child for child in psutil.Process(driver.pid).children(recursive=True) if child.pid in pids]
    if actors:
        chance.choice(sorted(actors, key=lambda child: child.pid)).kill()
    return bool(actors)
