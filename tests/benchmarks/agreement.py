"""Compares this machine's results with a CPU's eager float32: ``python -m tests.benchmarks.agreement [--json]``.

It computes the gradients of a condensation and of a training step at CIFAR-10's shapes, in each precision, eager and
compiled, on the GPU if there is one. Compiled functions are first called with other inputs, since a CUDA graph is
recorded at its second use and replayed from the third on. The exit code is 1 if a difference exceeds rounding.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from m3d import Augment, ClassImages, Condense, Condenser, Encoder, Kernel, Trainer
from m3d.backend import compiler
from m3d.backend.precision import convolutions

MOST_GRADIENT = {"float32": 5e-3, "tf32": 0.03, "bfloat16": 0.1}
"""Largest allowed norm of a gradient's difference from the reference, relative to the reference; per class for pixels."""
MOST_LOSS = {"float32": 1e-4, "tf32": 1e-2, "bfloat16": 3e-2}
"""Largest allowed difference of a loss from the reference, relative to the reference."""
BEFORE = 2
"""Calls of a compiled function before the one that counts."""
TRAINED = 64
"""Images of a training batch, over all classes."""
CPU = torch.device("cpu")
Precision = Literal["float32", "tf32", "bfloat16"]


@dataclass(frozen=True, kw_only=True)
class Way:
    """How the gradients are computed."""

    device: torch.device = CPU
    precision: Precision = "float32"
    compiled: bool = False

    def __str__(self) -> str:
        return f"{self.device.type}, {self.precision}, {'compiled' if self.compiled else 'eager'}"


@dataclass(frozen=True, kw_only=True)
class Size:
    """Shapes of the data."""

    classes: int = 10
    images: int = 256
    images_per_class: int = 10
    side: int = 32


def main() -> int:
    """Prints a line for every way. Returns exit code 1 if one of them does not agree."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    agree = True
    for figures in compare(Size(), ways()):
        agree &= figures["agrees"]
        print(json.dumps(figures) if args.json else described(figures), flush=True)
    return 0 if agree else 1


def ways() -> list[Way]:
    """Every way that this machine supports, except the reference."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    precisions: tuple[Precision, ...] = (
        ("float32", "tf32", "bfloat16") if device.type == "cuda" else ("float32", "bfloat16")
    )
    lacking = compiler.missing(device)
    if lacking:
        print(f"nothing is compiled: this machine has no {lacking}", file=sys.stderr)
    choices = (False,) if lacking else (False, True)
    every = [Way(device=device, precision=name, compiled=compiled) for name in precisions for compiled in choices]
    return [way for way in every if way != Way()]


def compare(size: Size, chosen: list[Way]) -> Iterator[dict[str, Any]]:
    """Yields the differences of every way from the reference, one for condensation and one for training."""
    references = {"condense": condensing(size, Way()), "train": training(size, Way())}
    for way in chosen:
        for name, compute in (("condense", condensing), ("train", training)):
            torch.compiler.reset()
            yield {"of": name, "way": str(way), **differences(references[name], compute(size, way), way.precision)}


def differences(reference: tuple[Tensor, Tensor], found: tuple[Tensor, Tensor], precision: str) -> dict[str, Any]:
    """Largest relative differences of the losses and of the gradients, and whether both are within rounding."""
    losses, gradients = zip(reference, found, strict=True)
    loss = float(((losses[1] - losses[0]).abs() / losses[0].abs()).max())
    wanted, slopes = (one.flatten(1) for one in gradients)
    gradient = float(((slopes - wanted).norm(dim=1) / wanted.norm(dim=1)).max())
    agrees = loss <= MOST_LOSS[precision] and gradient <= MOST_GRADIENT[precision]  # False for NaN
    return {"loss": loss, "gradient": gradient, "agrees": agrees}


def condensing(size: Size, way: Way) -> tuple[Tensor, Tensor]:
    """Losses and pixel gradients of every class, float64 on the CPU. The losses include the real-by-real term, which is never compiled."""
    condenser = Condenser(
        ClassImages(made_up(size, size.images), range(size.classes), seed=0, device=way.device),
        condense=Condense(
            images_per_class=size.images_per_class, precision=way.precision, compile="on" if way.compiled else "off"
        ),
        kernel=Kernel(),
        augment=Augment(),
        encoder=Encoder(),
        mean=(0.5,) * 3,
        std=(0.25,) * 3,
        class_count=size.classes,
    )
    pixels = condenser.init().pixels_KSCHW
    for iteration in range(BEFORE if way.compiled else 0, 0, -1):
        condenser.gradient(pixels.flip(0), iteration)
    _, slopes = condenser.gradient(pixels, 0)
    losses, _ = condenser.gradient(pixels, 0, real_term=True)
    return losses.cpu().double(), slopes.cpu().double()


def training(size: Size, way: Way) -> tuple[Tensor, Tensor]:
    """Loss of a training batch and its gradient by all parameters, float64 on the CPU."""
    shape = (3, size.side, size.side)
    trainer = Trainer(
        "convnet3", shape, classes=size.classes, precision=way.precision, compiled=way.compiled, device=way.device
    )
    each = TRAINED // size.classes
    batch = ((torch.cat(made_up(size, each)).float() / 255 - 0.5) / 0.25).to(way.device)
    labels = torch.arange(size.classes).repeat_interleave(each).to(way.device)

    def step(chosen: Tensor) -> Tensor:
        trainer.network.zero_grad(set_to_none=True)
        with convolutions(way.precision, way.device):
            found = F.cross_entropy(trainer.logits(chosen), labels)
            found.backward()
        return found

    for _ in range(BEFORE if way.compiled else 0):
        step(batch.flip(0))
    loss = step(batch)
    slopes = [parameter.grad for parameter in trainer.network.parameters() if parameter.grad is not None]
    return loss.detach().cpu().double()[None], torch.cat([slope.flatten().cpu().double() for slope in slopes])[None]


def made_up(size: Size, count: int) -> list[Tensor]:
    """The same synthetic uint8 images in every call: the classes differ in their mean pattern, under noise."""
    random = torch.Generator().manual_seed(0)
    shape = (3, size.side, size.side)
    patterns = torch.rand(size.classes, 1, *shape, generator=random)
    noise = torch.rand(size.classes, count, *shape, generator=random)
    return list((255 * (0.4 * patterns + 0.6 * noise)).to(torch.uint8))


def described(figures: dict[str, Any]) -> str:
    """The figures as one line of text."""
    verdict = "agrees" if figures["agrees"] else "DIFFERS"
    return (
        f"{figures['of']}, {figures['way']}: {verdict}; losses are off by {figures['loss']:.1e} at most, "
        f"gradients by {figures['gradient']:.1e}"
    )


if __name__ == "__main__":
    sys.exit(main())
