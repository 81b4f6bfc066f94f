"""``python -m tests.faults``: many real kills at random moments. Every run must end with the bytes of an undisturbed one.

Finished trials are recorded in OUT/trials-COMMIT.jsonl, so an interrupted call resumes where it ended. The folder of a
failed trial is kept, and ``--trial N`` repeats it.
"""

import argparse
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pydantic import TypeAdapter, ValidationError
from rich.console import Console

from pipeline.formats.provenance import commit
from tests.faults.nodes import Nodes
from tests.faults.outcome import Outcome
from tests.faults.plan import drawn
from tests.faults.reference import Reference
from tests.faults.stages import NODE
from tests.faults.table import line, table
from tests.faults.trial import Trial

RECORD = TypeAdapter(Outcome)
"""Reads and writes an outcome as JSON."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the missing trials and prints the table. Returns exit code 1 if a trial did not pass."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--trials", type=int, default=50, help="number of trials, the recorded ones included")
    parser.add_argument("--trial", type=int, action="append", metavar="N", help="run this trial, recorded or not")
    parser.add_argument("--out", type=Path, default=Path("runs/faults"), help="folder of the trials and their records")
    options = parser.parse_args(arguments)
    folder = options.out.absolute()
    version = commit() or "unknown"  # trials and undisturbed runs of another commit do not count
    log = folder / f"trials-{version}.jsonl"
    folder.mkdir(parents=True, exist_ok=True)
    done = {outcome.trial: outcome for outcome in recorded(log)}
    # Trials that share a cluster run one after another.
    missing = sorted((n for n in range(options.trials) if n not in done), key=lambda n: (drawn(n).victim == NODE, n))
    asked = options.trial or missing
    ran = run(asked, folder, Reference(folder / f"undisturbed-{version}"), log) if asked else {}
    done |= ran
    outcomes = [done[number] for number in sorted(ran if options.trial else done)]
    outcomes = outcomes if options.trial else [outcome for outcome in outcomes if outcome.trial < options.trials]
    Console().print(table(outcomes))
    for outcome in outcomes:
        if not outcome.passed:
            print(line(outcome))
            print(f"  python -m tests.faults --trial {outcome.trial} --out {options.out}")
    passed = sum(outcome.passed for outcome in outcomes)
    print(f"{passed} of {len(outcomes)} trials ended with the bytes of the undisturbed run")
    return 0 if passed == len(outcomes) else 1


def run(numbers: Sequence[int], folder: Path, reference: Reference, log: Path) -> dict[int, Outcome]:
    """Runs trials one after another, and records each as it ends. Ray's own files go to a temporary folder."""
    outcomes = {}
    before, nodes = os.environ.get("RAY_TMPDIR"), Nodes()
    os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_AUTH_MODE="disabled")
    with tempfile.TemporaryDirectory(prefix="faults-", ignore_cleanup_errors=True) as temporary:
        Path(temporary, "ray").mkdir()
        os.environ["RAY_TMPDIR"] = temporary
        try:
            for number in numbers:
                plan, own = drawn(number), folder / f"trial-{number:03d}"
                reference.of(plan.stage)
                cluster = nodes.ready() if plan.victim == NODE else None
                outcome = outcomes[number] = Trial(plan, own, reference, cluster).run()
                record(outcome, log)
                print(line(outcome), flush=True)
                if outcome.passed:
                    shutil.rmtree(own, ignore_errors=True)
        finally:
            nodes.stop()
            if before is None:
                del os.environ["RAY_TMPDIR"]
            else:
                os.environ["RAY_TMPDIR"] = before
    return outcomes


def record(outcome: Outcome, log: Path) -> None:
    """Appends an outcome to the log, on a line of its own even if an interrupted call left an unfinished one."""
    unfinished = log.exists() and not log.read_bytes().endswith(b"\n")
    with open(log, "a", encoding="utf-8") as file:
        file.write("\n" * unfinished + RECORD.dump_json(outcome).decode() + "\n")


def recorded(log: Path) -> list[Outcome]:
    """The outcomes in the log, the latest of a trial last. The line that an interrupted call was writing is skipped."""
    outcomes = []
    for text in log.read_text(encoding="utf-8").splitlines() if log.exists() else []:
        try:
            outcomes.append(RECORD.validate_json(text))
        except ValidationError:
            continue
    return outcomes


def _console() -> int:
    """``main`` as a command: SIGTERM ends it like Ctrl-C, after the trial's processes are killed."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return main()
    except KeyboardInterrupt:
        print("interrupted; repeat the command to resume", file=sys.stderr)
        return 130
    except RuntimeError as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(_console())
