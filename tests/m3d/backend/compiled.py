"""A compiled step beside an eager one, in a process without the shape checks of the tests: ``python -m tests.m3d.backend.compiled``.

With ``--short`` a single pass of a single shape, and no training.

Prints one JSON object: the largest difference of losses and of gradients, relative to the largest gradient, and of a
trained network's logits; and where compiled code is kept.
"""

import json
import os
import sys
from typing import Any

import torch

from m3d import Evaluate, Trainer, training_of
from tests.helpers import condenser_of, images_of


def main() -> None:
    """Prints the differences."""
    torch.set_num_threads(1)
    short = "--short" in sys.argv
    found = _steps(short) if short else {**_steps(short), **_training()}
    print(json.dumps({**found, "cache": os.environ["TORCHINDUCTOR_CACHE_DIR"]}))


def _steps(short: bool) -> dict[str, float]:
    # Two blocks a class on the way back, five classes in two chunks, and blocks of two lengths of real images.
    shapes: list[dict[str, Any]] = [{"images_per_class": 3, "block": 5}, {"images_per_class": 1, "block": 8}]
    losses, gradients = 0.0, 0.0
    for settings in shapes[1:] if short else shapes:
        eager, compiled = (
            condenser_of(range(2 if short else 5), compile=choice, **settings) for choice in ("off", "on")
        )
        pixels = eager.init().pixels_KSCHW
        for iteration in (0, 3):
            for real_term in (False,) if short else (False, True):
                one, slope = eager.gradient(pixels, iteration, real_term=real_term)
                other, compiled_slope = compiled.gradient(pixels, iteration, real_term=real_term)
                losses = max(losses, float((one - other).abs().max()))
                gradients = max(gradients, float((slope - compiled_slope).abs().max() / slope.abs().max()))
    return {"loss": losses, "gradient": gradients}


def _training() -> dict[str, float]:
    images = torch.cat([images_of(label, 10) for label in range(3)]).float() / 255
    labels = torch.arange(3).repeat_interleave(10)
    config = training_of(Evaluate(epochs=2))
    trainers = [Trainer("convnet1", (3, 8, 8), classes=3, compiled=compiled) for compiled in (False, True)]
    logits = []
    for trainer in trainers:
        for seed in (1, 0):  # the second network in the place of the first
            network = trainer.train(images, labels, config=config, seed=seed)
        logits.append(network(images).detach())
    return {"logits": float((logits[0] - logits[1]).abs().max())}


if __name__ == "__main__":
    main()
