"""What checkpoints cost: ``python -m tests.benchmarks.checkpoint [--json] [--slices 12]``.

Two condensations of CIFAR-10's shape at 10 images per class take turns of ten seconds in one process. One of them
writes a checkpoint in each of its turns, the other none. Two minutes for each give twelve turns.
"""

import argparse
import json
import statistics
import tempfile
import time

import torch

from m3d import ClassImages, Condense, Condenser, CondenseState, Method
from pipeline.condense.group_store import Checkpoints, GroupStore
from pipeline.config.report import ReportSettings
from pipeline.config.run_config import Resources, RunConfig
from pipeline.formats.run_folder import RunFolder

SLICE_S = 10.0


def main() -> None:
    """Prints the figures as JSON or as a line of text."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument(
        "--slices", type=int, default=12, help="turns of ten seconds for each condensation (%(default)s)"
    )
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(folder, args.slices)
    if args.json:
        print(json.dumps(figures))
    else:
        print(
            f"checkpoints every {SLICE_S:g} s cost {100 * figures['cost']:.2f} % of the iterations "
            f"(median of {args.slices} turns, from {100 * figures['cost_min']:.2f} to {100 * figures['cost_max']:.2f} %); "
            f"the step was blocked for {100 * figures['stalled']:.3f} % of the time"
        )


def measure(folder: str, slices: int) -> dict[str, float]:
    """Shares of the run, 0 to 1: ``cost`` in lost iterations, ``stalled`` in time spent in the checkpoint call."""
    condensers = [_condenser(), _condenser()]
    states = [condenser.init() for condenser in condensers]
    for i, condenser in enumerate(condensers):  # the first iterations allocate memory
        for _ in range(3):
            states[i], _ = condenser.step(states[i])
    config = RunConfig(resources=Resources(checkpoint_every_s=SLICE_S), report=ReportSettings(snapshots=0))
    checkpoints = Checkpoints(GroupStore(RunFolder.at(folder), "benchmark"), 0, config, 0)
    costs, stalled = [], 0.0
    for _ in range(slices):
        states[0], without, _ = _turn(condensers[0], states[0], None)
        states[1], with_them, stall = _turn(condensers[1], states[1], checkpoints)
        costs.append(1 - with_them / without)
        stalled += stall
    checkpoints.settle()
    cost = statistics.median(costs)
    return {"cost": cost, "cost_min": min(costs), "cost_max": max(costs), "stalled": stalled / (slices * SLICE_S)}


def _turn(
    condenser: Condenser, state: CondenseState, checkpoints: Checkpoints | None
) -> tuple[CondenseState, float, float]:
    """The state after one turn, its iterations per second, and the seconds spent in the checkpoint call."""
    began, done, stalled = time.monotonic(), 0, 0.0
    while time.monotonic() - began < SLICE_S:
        state, _ = condenser.step(state)
        done += 1
        if checkpoints is not None:
            before = time.monotonic()
            checkpoints.after(state)
            stalled += time.monotonic() - before
    return state, done / (time.monotonic() - began), stalled


def _condenser() -> Condenser:
    noise = torch.Generator().manual_seed(0)
    images = [torch.randint(0, 256, (200, 3, 32, 32), dtype=torch.uint8, generator=noise) for _ in range(10)]
    return Condenser(
        ClassImages(images, range(10), seed=0),
        Method(condense=Condense(images_per_class=10, iterations=2**31 - 1)),
        mean=(0.5,) * 3,
        std=(0.25,) * 3,
        class_count=10,
    )


if __name__ == "__main__":
    main()
