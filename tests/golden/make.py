"""Writes the stored loss curve: ``python -m tests.golden.make``. Run it only if a change of the numbers is intended.

The data are scikit-learn's digits 0, 1 and 2, 8 px enlarged to 16 px, three channels alike: no download, and
the same everywhere. The learning rate is a tenth of the default: at the default a change of the pixels by
1e-6 at the start grows to 5e-3 of the loss in 30 iterations, at this one to 5e-5, so another machine's
rounding stays within the tolerance.
"""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from sklearn.datasets import load_digits

from m3d import ClassImages, Condense, Condenser, Encoder, Method, iterate, moments

CURVE = Path(__file__).with_name("digits3_convnet2_float32.json")
ITERATIONS, CLASSES, PER_CLASS = 30, 3, 64


def digits() -> list[torch.Tensor]:
    """uint8 images [64, 3, 16, 16] of every class."""
    found: Any = load_digits(return_X_y=True)
    values, labels = (torch.from_numpy(part) for part in found)
    pixels = (values.view(-1, 1, 8, 8) * 255 / 16).round().to(torch.uint8)
    enlarged = pixels.repeat_interleave(2, -1).repeat_interleave(2, -2).expand(-1, 3, -1, -1)
    return [enlarged[labels == label][:PER_CLASS].contiguous() for label in range(CLASSES)]


def curve() -> tuple[list[int], list[list[float]]]:
    """Iterations (from 1) and the loss of every class at them."""
    torch.set_num_threads(1)
    images = digits()
    mean, std = moments(torch.cat(images))
    condenser = Condenser(
        ClassImages(images, range(CLASSES), seed=0),
        Method(
            encoder=Encoder(name="convnet2", width=16),
            condense=Condense(
                images_per_class=2,
                iterations=ITERATIONS,
                batch_real=32,
                learning_rate=0.2,
                precision="float32",
                log_every=5,
            ),
        ),
        mean=mean,
        std=std,
        class_count=CLASSES,
    )
    logged = [(step.state.iteration, list(step.losses)) for step in iterate(condenser) if step.losses is not None]
    return [iteration for iteration, _ in logged], [losses for _, losses in logged]


def main() -> None:
    """Writes the curve beside this file."""
    iterations, losses = curve()
    origin = {
        "made_by": "python -m tests.golden.make",
        "torch": torch.__version__,
        "date": datetime.now(UTC).date().isoformat(),
        "precision": "float32",
        "device": "cpu, one thread",
        "setting": "digits 0-2 at 16 px, convnet2 width 16, 2 images per class, factor 2, batch_real 32, lr 0.2, seed 0",
    }
    CURVE.write_text(json.dumps({"origin": origin, "iterations": iterations, "losses": losses}, indent=1) + "\n")
    print(f"wrote {CURVE}")


if __name__ == "__main__":
    main()
