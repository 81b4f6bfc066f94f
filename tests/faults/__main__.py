"""``python -m tests.faults``: many real kills at random moments. Every run must finish with the same bytes.

Finished trials are recorded in OUT/trials-COMMIT.jsonl, so an interrupted call resumes where it ended.
"""

import argparse
import json
import logging
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from pipeline.formats.provenance import commit
from tests.faults.trial import KINDS, PHASES, Outcome, run_trial, undisturbed


def main() -> int:
    """Runs the missing trials and prints the table. Returns exit code 1 if a trial did not pass."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--out", type=Path, default=Path("runs/faults"))
    args = parser.parse_args()
    os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_AUTH_MODE="disabled")
    folder = args.out.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    expected = undisturbed(folder / "undisturbed", folder / "class-shards")
    version = commit() or "unknown"
    log = folder / f"trials-{version}.jsonl"  # trials of another commit do not count
    done = {outcome.trial: outcome for outcome in _read(log)}
    # Trials that share a cluster run one after another.
    todo = sorted((n for n in range(args.trials) if n not in done), key=lambda n: (KINDS[n % len(KINDS)] == "node", n))
    nodes = _Nodes()
    try:
        for number in todo:
            kind = KINDS[number % len(KINDS)]
            cluster = nodes.ready() if kind == "node" else None
            outcome = run_trial(number, folder, folder / "class-shards", expected, cluster, kind)
            done[number] = outcome
            with open(log, "a") as file:
                file.write(json.dumps(outcome.as_dict()) + "\n")
            print(_line(outcome), flush=True)
            if outcome.passed:
                shutil.rmtree(folder / f"trial-{number:03d}", ignore_errors=True)
    finally:
        nodes.stop()
    outcomes = [done[number] for number in sorted(done) if number < args.trials]
    Console().print(_table(outcomes))
    passed = sum(outcome.passed for outcome in outcomes)
    print(f"{passed} of {len(outcomes)} trials finished with the bytes of the undisturbed run")
    return 0 if passed == len(outcomes) else 1


class _Nodes:
    """A Ray cluster with a head without CPUs and two worker nodes. A killed worker node is replaced."""

    def __init__(self) -> None:
        self.cluster: Any = None

    def ready(self) -> Any:
        """The cluster with both worker nodes alive."""
        from ray.cluster_utils import Cluster

        if self.cluster is None:
            logging.getLogger("ray").setLevel(logging.ERROR)
            head = {"num_cpus": 0, "include_dashboard": False}
            self.cluster = Cluster(initialize_head=True, head_node_args=head)
        while len(self.cluster.worker_nodes) < 2:
            self.cluster.add_node(num_cpus=1)
        time.sleep(1)
        return self.cluster

    def stop(self) -> None:
        """Stops the cluster if it was started."""
        if self.cluster is not None:
            self.cluster.shutdown()


def _read(path: Path) -> list[Outcome]:
    return [Outcome(**json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []


def _line(outcome: Outcome) -> str:
    verdict = "ok" if outcome.passed else f"FAILED {outcome.said}"
    return f"trial {outcome.trial:3d}: {outcome.kind} killed {outcome.phase} the first checkpoint, {outcome.seconds:.0f} s, {verdict}"


def _table(outcomes: list[Outcome]) -> Table:
    table = Table(title="real kills at random moments")
    for column in ("killed", "when", "trials", "finished", "same bytes", "most repeated", "median s"):
        table.add_column(column, justify="left" if column in ("killed", "when") else "right")
    for kind in KINDS:
        for phase in PHASES:
            matching = [o for o in outcomes if (o.kind, o.phase) == (kind, phase)]
            if matching:
                seconds = sorted(o.seconds for o in matching)[len(matching) // 2]
                numbers = (
                    len(matching),
                    sum(o.finished for o in matching),
                    sum(o.identical for o in matching),
                    max(o.repeated for o in matching),
                )
                table.add_row(kind, f"{phase} the first checkpoint", *map(str, numbers), f"{seconds:.0f}")
    return table


if __name__ == "__main__":
    sys.exit(main())
