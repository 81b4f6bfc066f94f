"""What a step costs: ``python -m tests.benchmarks.step [--json] [--cases A,B]``.

Three loops take turns in one process, and their medians are compared: the step; the encoder's passes alone on the
same batches, in the step's own precision, compilation and blocks, which is the lower limit; and the published loop. The
ratio to the encoder is the median over neighbouring turns. The cases of 128 and 224 px have two classes; the ratios do
not depend on the number.
"""

import argparse
import json
import platform
import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from m3d import Augment, ClassImages, Condense, Condenser, Encoder, Kernel
from m3d.backend.compiler import compiled
from m3d.backend.precision import convolutions, encoding
from m3d.passes import block_size
from tests.benchmarks.published import Published

ROUNDS = 3
PAIRS = 5
"""Turns of the step and of the encoder, one after the other, for each turn of the published loop."""
TURN_S = 0.7
"""Seconds that a turn of a fast loop fills with iterations."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """Shapes of a condensation."""

    encoder: str
    side: int
    channels: int
    classes: int
    images_per_class: int
    images: int = 256
    iterations: int = 10_000
    """Iterations of the schedule that the case represents. They decide whether compiling pays."""


CASES = {
    "digits_ipc1": Case(
        encoder="convnet3", side=16, channels=1, classes=10, images_per_class=1, images=144, iterations=60
    ),
    "cifar10_ipc1": Case(encoder="convnet3", side=32, channels=3, classes=10, images_per_class=1),
    "cifar10_ipc10": Case(encoder="convnet3", side=32, channels=3, classes=10, images_per_class=10),
    "cifar10_ipc50": Case(encoder="convnet3", side=32, channels=3, classes=10, images_per_class=50),
    "convnet5_128": Case(encoder="convnet5", side=128, channels=3, classes=2, images_per_class=10, images=144),
    "resnetap10_224": Case(encoder="resnetap10", side=224, channels=3, classes=2, images_per_class=10, images=144),
}


def main() -> None:
    """Prints the figures of each case as a line of JSON or of text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--cases", default=",".join(CASES), help="comma-separated, from " + ", ".join(CASES))
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="turns of the published loop (%(default)s)")
    args = parser.parse_args()
    names = args.cases.split(",")
    unknown = [name for name in names if name not in CASES]
    if unknown:
        parser.error(f"--cases: given {unknown[0]!r}, allowed: {', '.join(CASES)}")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    for name in names:
        torch.compiler.reset()
        figures = measure(name, CASES[name], device, args.rounds)
        print(json.dumps(figures) if args.json else described(figures), flush=True)


def measure(name: str, case: Case, device: torch.device, rounds: int = ROUNDS) -> dict[str, Any]:
    """Medians in seconds per iteration over all classes, and their ratios."""
    random = torch.Generator().manual_seed(0)
    shape = (case.classes, case.images, case.channels, case.side, case.side)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=random).to(device)
    condense = Condense(images_per_class=case.images_per_class, iterations=case.iterations)
    augment, encoder, channels = Augment(), Encoder(name=case.encoder), case.channels
    condenser = Condenser(
        ClassImages(list(images), range(case.classes), seed=0, device=device),
        condense=condense,
        kernel=Kernel(),
        augment=augment,
        encoder=encoder,
        mean=(0.5,) * channels,
        std=(0.25,) * channels,
        class_count=case.classes,
    )
    state = condenser.init()
    published = Published(images, state.pixels_KSCHW, condense=condense, encoder=encoder, augment=augment)

    def step() -> None:
        nonlocal state
        state, _ = condenser.step(state)

    turns = {"step": step, "encoder": encoder_alone(condenser), "published": published.sweep}
    for turn in turns.values():
        for _ in range(3 if device.type == "cuda" else 1):
            turn()  # compiles and allocates; a CUDA graph is recorded at its second use
    repeats = {label: max(1, round(TURN_S / _timed(turn, 1, device))) for label, turn in turns.items()}
    seconds: dict[str, list[float]] = {label: [] for label in turns}
    for _ in range(rounds):
        for label in ["step", "encoder"] * PAIRS + ["published"]:
            seconds[label].append(_timed(turns[label], repeats[label], device))
    # Other work on the machine affects neighbouring turns alike, so their ratios spread less than the ratio of two medians.
    pairs = [step / encoder for step, encoder in zip(seconds["step"], seconds["encoder"], strict=True)]
    medians = {label: statistics.median(values) for label, values in seconds.items()}
    return {
        "case": name,
        "device": torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"CPU, {torch.get_num_threads()} threads",
        "precision": condenser.execution.precision,
        "step_s": medians["step"],
        "encoder_s": medians["encoder"],
        "published_s": medians["published"],
        "step_over_encoder": statistics.median(pairs),
        "published_over_step": medians["published"] / medians["step"],
        "peak_mib": _peak_mib(step, device),
        "compiled": condenser.execution.compiled,
        "spread": {label: max(values) / min(values) for label, values in seconds.items()},
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def encoder_alone(condenser: Condenser) -> Callable[[], None]:
    """A function that runs the passes every step needs: real images forward; views forward and back to the pixels."""
    execution, condense, real = condenser.execution, condenser.condense, condenser.real
    network, classes, device = condenser._passes.network, len(real.ids), real.device

    def features(x: torch.Tensor) -> torch.Tensor:
        with encoding(execution.precision, device):
            return network.features(x).float()

    encode = compiled(features, device) if execution.compiled else features
    random = torch.Generator().manual_seed(0)
    images = torch.randn((classes * condense.batch_real, *real.shape), generator=random).to(device)
    views = torch.randn((classes * condense.views, *real.shape), generator=random).to(device)
    real_blocks = images.split(block_size(len(images), execution.real_block))
    # Like the step, this takes some classes at a time, or a part of one.
    some = block_size(classes, max(1, execution.synthetic_block // condense.views)) * condense.views
    size = some if some <= execution.synthetic_block else block_size(condense.views, execution.synthetic_block)
    view_blocks = [block.clone().requires_grad_(True) for block in views.split(size)]

    def run() -> None:
        with convolutions(execution.precision, device):
            with torch.no_grad():
                for block in real_blocks:
                    encode(block)
            for block in view_blocks:
                out = encode(block)
                torch.autograd.grad(out, block, torch.ones_like(out))

    return run


def described(figures: dict[str, Any]) -> str:
    """The figures as one line of text."""
    return (
        f"{figures['case']}: step {figures['step_s']:.4f} s, {figures['step_over_encoder']:.2f} x the encoder alone, "
        f"{figures['published_over_step']:.1f} x faster than the published loop; {figures['peak_mib']:.0f} MiB "
        f"({figures['device']}, {figures['precision']}{', compiled' if figures['compiled'] else ''})"
    )


def _timed(turn: Callable[[], None], repeats: int, device: torch.device) -> float:
    _settle(device)
    began = time.perf_counter()
    for _ in range(repeats):
        turn()
    _settle(device)
    return (time.perf_counter() - began) / repeats


def _settle(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _peak_mib(turn: Callable[[], None], device: torch.device) -> float:
    """Peak memory of the process, or of the GPU, during one step."""
    if device.type == "cuda":
        # A CUDA graph's memory was allocated when it was recorded; only the reserved memory includes it.
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        turn()
        return torch.cuda.max_memory_reserved(device) / 2**20
    try:
        Path("/proc/self/clear_refs").write_text("5")  # resets the recorded peak
        turn()
        status = Path("/proc/self/status").read_text().splitlines()
        return next(float(line.split()[1]) for line in status if line.startswith("VmHWM")) / 2**10
    except (OSError, StopIteration):
        turn()
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


if __name__ == "__main__":
    main()
