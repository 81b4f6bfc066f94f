"""Whether this machine computes what a CPU does eagerly in float32: ``python -m tests.benchmarks.agreement [--json]``.

The gradient of a condensation and that of a training step, at CIFAR-10's shapes, in each precision, eagerly and
compiled, on the GPU where there is one. A compiled pass is repeated, since a CUDA graph is recorded at its second use
and replayed from the third on. Exit code 1 where something differs by more than rounding explains.
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
from m3d.precision import convolutions

LEAST_COSINE = {"float32": 1 - 1e-5, "tf32": 0.9995, "bfloat16": 0.998}
"""How near a gradient must point to that of the reference; per class for the pixels."""
MOST_LOSS = {"float32": 1e-4, "tf32": 1e-2, "bfloat16": 3e-2}
"""How far a loss may be off, relative to the reference."""
REPEATS = 3
TRAINED = 64
"""Images of a training batch, all classes together."""
CPU = torch.device("cpu")
Precision = Literal["float32", "tf32", "bfloat16"]


@dataclass(frozen=True, kw_only=True)
class Way:
    """How something is computed."""

    device: torch.device = CPU
    precision: Precision = "float32"
    compiled: bool = False

    def __str__(self) -> str:
        return f"{self.device.type}, {self.precision}, {'compiled' if self.compiled else 'eager'}"


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is computed."""

    classes: int = 10
    images: int = 256
    images_per_class: int = 10
    side: int = 32


def main() -> int:
    """Prints a line for every way, and says by the exit code whether all agree."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--classes", type=int, default=Size.classes)
    parser.add_argument("--images-per-class", type=int, default=Size.images_per_class)
    given = parser.parse_args()
    size = Size(classes=given.classes, images_per_class=given.images_per_class)
    agree = True
    for figures in compare(size, ways()):
        agree &= figures["agrees"]
        print(json.dumps(figures) if given.json else described(figures), flush=True)
    return 0 if agree else 1


def ways() -> list[Way]:
    """What this machine can do besides the reference."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    precisions: tuple[Precision, ...] = (
        ("float32", "tf32", "bfloat16") if device.type == "cuda" else ("float32", "bfloat16")
    )
    every = [Way(device=device, precision=name, compiled=compiled) for name in precisions for compiled in (False, True)]
    return [way for way in every if way != Way()]


def compare(size: Size, chosen: list[Way]) -> Iterator[dict[str, Any]]:
    """Yields the differences from the reference, once for condensation and once for training, of every way."""
    references = {"condense": condensing(size, Way()), "train": training(size, Way())}
    for way in chosen:
        for name, compute in (("condense", condensing), ("train", training)):
            torch.compiler.reset()
            yield {"of": name, "way": str(way), **differences(references[name], compute(size, way), way.precision)}


def differences(reference: tuple[Tensor, Tensor], found: tuple[Tensor, Tensor], precision: str) -> dict[str, Any]:
    """Largest relative difference of the losses and least cosine of the gradients, and whether both are within rounding."""
    losses, gradients = zip(reference, found, strict=True)
    loss = float(((losses[1] - losses[0]).abs() / losses[0].abs()).max())
    cosine = float(F.cosine_similarity(*(one.flatten(1) for one in gradients), dim=1).min())
    # The negation, so that a NaN does not agree.
    agrees = loss <= MOST_LOSS[precision] and cosine >= LEAST_COSINE[precision]
    return {"loss": loss, "cosine": cosine, "agrees": agrees}


def condensing(size: Size, way: Way) -> tuple[Tensor, Tensor]:
    """Losses and pixel gradients of every class, float64 on the CPU."""
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
    for _ in range(REPEATS if way.compiled else 1):
        losses, slopes = condenser.gradient(pixels, 0, real_term=True)
    return losses.cpu().double(), slopes.cpu().double()


def training(size: Size, way: Way) -> tuple[Tensor, Tensor]:
    """Loss and gradient by all parameters of a training batch, float64 on the CPU."""
    shape = (3, size.side, size.side)
    trainer = Trainer(
        "convnet3", shape, classes=size.classes, precision=way.precision, compiled=way.compiled, device=way.device
    )
    each = TRAINED // size.classes
    batch = ((torch.cat(made_up(size, each)).float() / 255 - 0.5) / 0.25).to(way.device)
    labels = torch.arange(size.classes).repeat_interleave(each).to(way.device)
    for _ in range(REPEATS if way.compiled else 1):
        trainer.network.zero_grad(set_to_none=True)
        with convolutions(way.precision, way.device):
            loss = F.cross_entropy(trainer.logits(batch), labels)
            loss.backward()
    slopes = [parameter.grad for parameter in trainer.network.parameters() if parameter.grad is not None]
    return loss.detach().cpu().double()[None], torch.cat([slope.flatten().cpu().double() for slope in slopes])[None]


def made_up(size: Size, count: int) -> list[Tensor]:
    """uint8 images of classes that differ in their mean pattern, under noise; always the same."""
    random = torch.Generator().manual_seed(0)
    shape = (3, size.side, size.side)
    patterns = torch.rand(size.classes, 1, *shape, generator=random)
    noise = torch.rand(size.classes, count, *shape, generator=random)
    return list((255 * (0.4 * patterns + 0.6 * noise)).to(torch.uint8))


def described(figures: dict[str, Any]) -> str:
    """One line for a person."""
    verdict = "agrees" if figures["agrees"] else "DIFFERS"
    return (
        f"{figures['of']}, {figures['way']}: {verdict}; losses are off by {figures['loss']:.1e} at most, gradients have "
        f"a cosine of {figures['cosine']:.6f} at least"
    )


if __name__ == "__main__":
    sys.exit(main())
