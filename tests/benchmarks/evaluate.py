"""What evaluation costs: ``python -m tests.benchmarks.evaluate [--json] [--seeds 10] [--epochs 10]``.

Networks are trained on a set of CIFAR-10's shape at 10 images per class (400 views) and scored on 1,000 images.
"One by one" is eager, in one process with every thread, in the precision that ``auto`` chooses. "Together" is what the
evaluate stage does: compiled, one process per core with one thread each (on a GPU: compiled, in one process). Compiled
functions are warmed up first, since a real evaluation trains a hundred times as many epochs with them.
"""

import argparse
import json
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import torch

from m3d import Evaluate, Recipe, TestSet, train_and_score, training_of
from m3d.backend.precision import resolve

ARCHITECTURE = "convnet3"
GRAPH_EPOCHS = 3
"""Epochs of warm-up on a GPU: the smaller batch comes once per epoch, and a CUDA graph is recorded at its second use."""


def main() -> None:
    """Prints the figures as JSON or as a line of text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=10)
    args = parser.parse_args()
    figures = measure(args.seeds, args.epochs)
    if args.json:
        print(json.dumps(figures))
    else:
        print(
            f"{args.seeds} seeds of {ARCHITECTURE}: one by one {figures['one_by_one_per_minute']:.1f} a minute, together "
            f"{figures['together_per_minute']:.1f} a minute: {figures['together_over_one_by_one']:.2f} times as many"
        )


def measure(seeds: int, epochs: int) -> dict[str, Any]:
    """Seeds per minute one by one and together, and their ratio."""
    gpu = torch.cuda.is_available()
    processes = 1 if gpu else torch.get_num_threads()
    if gpu:
        _score(0, 1, False)
    began = time.perf_counter()
    scores = [_score(seed, epochs, False) for seed in range(seeds)]
    alone_s = time.perf_counter() - began
    if gpu:
        _score(0, GRAPH_EPOCHS, True)
        began = time.perf_counter()
        together = [_score(seed, epochs, True) for seed in range(seeds)]
        together_s = time.perf_counter() - began
    else:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(processes, context, _single, initargs=(context.Barrier(processes),)) as pool:
            list(pool.map(_warm, range(processes)))
            began = time.perf_counter()
            together = list(pool.map(_score, range(seeds), [epochs] * seeds, [True] * seeds))
            together_s = time.perf_counter() - began
    return {
        "device": torch.cuda.get_device_name() if gpu else f"CPU, {torch.get_num_threads()} threads",
        "precision": resolve("auto", torch.device("cuda" if gpu else "cpu")),
        "seeds": seeds,
        "epochs": epochs,
        "one_by_one_per_minute": 60 * seeds / alone_s,
        "together_per_minute": 60 * seeds / together_s,
        "together_over_one_by_one": alone_s / together_s,
        "accuracy_one_by_one": sum(scores) / seeds,
        "accuracy_together": sum(together) / seeds,
        "torch": torch.__version__,
    }


def _single(barrier: Any) -> None:
    global _barrier
    _barrier = barrier
    torch.set_num_threads(1)


def _warm(_: int) -> None:
    _score(0, 1, True)
    _barrier.wait(timeout=600)  # so that every process warms up exactly once


def _score(seed: int, epochs: int, compiled: bool) -> float:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    images, labels, test = _data(device)
    recipe = Recipe(
        architecture=ARCHITECTURE,
        training=training_of(Evaluate(epochs=epochs)),
        precision=resolve("auto", device),
        compiled=compiled,
    )
    scored = train_and_score(recipe, images, labels, test, seeds=range(seed, seed + 1))
    ((_, accuracy),) = scored
    return accuracy


def _data(device: torch.device) -> tuple[torch.Tensor, torch.Tensor, TestSet]:
    """Training images, their labels and the test set: ten classes that differ in their mean colour pattern, under noise."""
    random = torch.Generator().manual_seed(0)
    patterns = torch.rand(10, 3, 32, 32, generator=random)

    def synthetic(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        labels = torch.arange(count) % 10
        images = 0.25 * patterns[labels] + 0.75 * torch.rand(count, 3, 32, 32, generator=random)
        return (images * 255).to(torch.uint8), labels

    images, labels = synthetic(400)
    test_images, test_labels = synthetic(1000)
    mean, std = (0.5,) * 3, (0.25,) * 3
    test = TestSet(images=test_images.to(device), labels=test_labels.to(device), mean=mean, std=std, classes=10)
    return ((images.float() / 255 - 0.5) / 0.25).to(device), labels.to(device), test


if __name__ == "__main__":
    main()
