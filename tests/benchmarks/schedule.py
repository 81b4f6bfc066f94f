"""How long a schedule takes: ``python -m tests.benchmarks.schedule [--json] [--images-per-class 10] [--iterations 10000]``.

All classes of CIFAR-10's shape form one group in one process: 5,000 synthetic images per class, 32 px, ConvNet-3, the
published settings. The time is from the first to the last iteration and includes a loss at every 50th. Compiling
happens once and is reported separately. With fewer iterations, the time of 10,000 is extrapolated from the rate.
"""

import argparse
import json
import time
from typing import Any

import torch

from m3d import ClassImages, Condense, Condenser, Method, iterate

FULL = 10_000


def main() -> None:
    """Prints the figures as JSON or as a line of text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--images-per-class", type=int, default=10)
    parser.add_argument("--iterations", type=int, default=FULL)
    args = parser.parse_args()
    figures = measure(args.images_per_class, args.iterations)
    if args.json:
        print(json.dumps(figures))
    else:
        print(
            f"{args.iterations} iterations at {args.images_per_class} images per class: {figures['seconds']:.1f} s on "
            f"{figures['device']}, so {FULL} take {figures['full_s'] / 60:.1f} minutes; compiling {figures['compile_s']:.1f} s"
        )


def measure(images_per_class: int, iterations: int) -> dict[str, Any]:
    """Seconds of the iterations and of compiling, and the seconds of 10,000 iterations at that rate."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    random = torch.Generator().manual_seed(0)
    images = [torch.randint(0, 256, (5000, 3, 32, 32), dtype=torch.uint8, generator=random) for _ in range(10)]
    condenser = Condenser(
        ClassImages(images, range(10), seed=0, device=device),
        Method(condense=Condense(images_per_class=images_per_class, iterations=iterations, compile="on")),
        mean=(0.5,) * 3,
        std=(0.25,) * 3,
        class_count=10,
    )
    began = time.perf_counter()
    state = condenser.init()
    for _ in range(3 if device.type == "cuda" else 1):  # a CUDA graph is recorded at its second use
        condenser.warm_up(state)
        condenser.gradient(state.pixels_KSCHW, 0, real_term=True)
    _settle(device)
    compile_s, began = time.perf_counter() - began, time.perf_counter()
    for step in iterate(condenser, state):
        state = step.state
    _settle(device)
    seconds = time.perf_counter() - began
    return {
        "device": torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"CPU, {torch.get_num_threads()} threads",
        "precision": condenser.execution.precision,
        "images_per_class": images_per_class,
        "iterations": iterations,
        "seconds": seconds,
        "full_s": seconds / iterations * FULL,
        "compile_s": compile_s,
        "torch": torch.__version__,
    }


def _settle(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()
