"""Trains a network on the full training set, by one worker or by several that share every batch.

Order and augmentation are functions of (seed, epoch, image), and a step follows from the complete batch. Several workers
therefore compute the same as one, up to rounding. Networks have no norm across a batch.

B  images of a worker's part of a batch    C, H, W  channels, height, width
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from m3d import augment as augmentation
from m3d.backend.precision import convolutions, resolve
from m3d.config import ConfigError
from m3d.encoders import build
from m3d.pulse import beat
from m3d.seeding import derive, generator
from m3d.shapes import Int, ShapeError
from m3d.state import standardise
from m3d.training.logits import Logits
from m3d.training.row_images import RowImages
from m3d.training.settings import WholeTrain
from m3d.training.snapshot import restore, snapshot

STEPS = (1 / 2, 3 / 4, 7 / 8)
"""Fractions of the training after which the ``steps`` schedule multiplies the rate by ``STEP_DECAY``."""
STEP_DECAY = 0.2
WEIGHTS = "weights"
"""Prefix of the weights among the tensors of a training."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """The position of a worker among all workers: it takes its slice of every batch."""

    rank: int = 0
    world: int = 1

    def of(self, count: int) -> slice:
        """This worker's slice of ``count`` things; slices differ in length by at most one."""
        return slice(count * self.rank // self.world, count * (self.rank + 1) // self.world)


def rate_at(config: WholeTrain, step: int, steps: int) -> float:
    """The learning rate of one step.

    Linear from 0 (exclusive) in the first ``warmup * steps``. Then ``rate (1 + cos(pi t)) / 2``, where t is the finished
    fraction of the rest, or the drops of ``STEPS``.

    Args:
        config: schedule and its highest rate.
        step: from 0.
        steps: number of steps of the complete training.
    """
    rising = int(config.warmup * steps)
    if step < rising:
        return config.learning_rate * (step + 1) / (rising + 1)
    if config.schedule == "steps":
        return config.learning_rate * STEP_DECAY ** sum(step >= fraction * steps for fraction in STEPS)
    return config.learning_rate * (1 + math.cos(math.pi * (step - rising) / (steps - rising))) / 2


class WholeSetTrainer:
    """Trains networks of one architecture one after another, in place, epoch by epoch."""

    def __init__(
        self,
        architecture: str,
        images: RowImages,
        *,
        config: WholeTrain,
        precision: str = "float32",
        compiled: bool = False,
        part: Part | None = None,
        parallel: Callable[[nn.Module], nn.Module] | None = None,
    ) -> None:
        """Args:
        architecture: a name that ``m3d.encoders.build`` accepts.
        images: the full training set; every worker can read all of it and reads its own part.
        config: the training.
        precision: auto, float32, tf32 or bfloat16.
        compiled: whether the network is compiled.
        part: which worker this is. Defaults to the only one.
        parallel: wraps the forward pass so that gradients are averaged over the workers, such as DDP; required with
            several workers.

        Raises:
            ConfigError: an unknown architecture, or images too small for the network or too few for the workers.
            ShapeError: images that are not square.
        """
        channels, height, width = images.shape
        if height != width:
            raise ShapeError("images", images.shape, "[channels, side, side]: crop them to squares first")
        self.images, self.config, self.part = images, config, part or Part()
        self.batch = min(config.batch, len(images))
        if self.batch < self.part.world:
            text = f"{self.part.world} workers for batches of {self.batch} images"
            raise ConfigError(text, field="workers")
        self.device, self.compiled = images.device, compiled
        self.precision = resolve(precision, self.device)
        self.network = build(
            architecture,
            channels=channels,
            image_size=height,
            classes=images.classes,
            generator=generator(0, "pretrain/weights"),
            device=self.device,
        )
        if self.device.type == "cuda":
            self.network = self.network.to(memory_format=torch.channels_last)
        logits = Logits(self.network, self.precision, self.device, compiled=compiled)
        self._logits = parallel(logits) if parallel else logits
        self.start(0)

    @property
    def steps(self) -> int:
        """Steps per epoch. Only complete batches count; every epoch omits a few other images."""
        return len(self.images) // self.batch

    def start(self, seed: int) -> None:
        """Fresh weights and momentum of a seed."""
        self.seed = seed
        self.network.reset_parameters(generator(seed, "pretrain/weights"))
        rule = self.config
        self.optimiser = torch.optim.SGD(
            self.network.parameters(), lr=rule.learning_rate, momentum=rule.momentum, weight_decay=rule.weight_decay
        )

    def epoch(self, epoch: int, after_step: Callable[[int], None] | None = None) -> float:
        """Trains for one epoch; returns the mean loss over its images, which is the same on every worker.

        Args:
            epoch: from 0; order, augmentation and rate follow from it.
            after_step: called with the number of finished steps of this epoch.
        """
        self.network.train()
        total = torch.zeros((), device=self.device)
        for step, rows in enumerate(self._batches(epoch)):
            self.optimiser.param_groups[0]["lr"] = rate_at(
                self.config, epoch * self.steps + step, self.config.epochs * self.steps
            )
            total += self._step(epoch, rows)
            beat()
            if after_step:
                after_step(step + 1)
        if self.part.world > 1:
            dist.all_reduce(total)
        return float(total) / self.part.world / self.steps

    def tensors(self) -> dict[str, Tensor]:
        """Weights (``weights.NAME``) and momentum (``momentum.NAME``) on the CPU: all that the next epoch needs."""
        return snapshot(self.network, self.optimiser, weights=WEIGHTS)

    def restore(self, seed: int, tensors: Mapping[str, Tensor]) -> None:
        """Resumes the training of a seed from its ``tensors``."""
        self.start(seed)
        restore(self.network, self.optimiser, tensors, weights=WEIGHTS)

    def _batches(self, epoch: int) -> Iterator[Tensor]:
        order = torch.randperm(len(self.images), generator=generator(self.seed, "pretrain/order", epoch))
        mine = self.part.of(self.batch)
        for step in range(self.steps):
            yield order[step * self.batch : (step + 1) * self.batch][mine]

    def _step(self, epoch: int, rows: Int[Tensor, " B"]) -> Tensor:
        batch = self._augmented(rows, epoch)
        labels = self.images.labels[rows].to(self.device, non_blocking=True)
        with convolutions(self.precision, self.device):
            # Gradients are averaged over workers, whose parts may differ by an image. The loss is scaled so that the
            # average is the gradient of the complete batch's mean.
            loss = F.cross_entropy(self._logits(batch), labels, reduction="sum") * (self.part.world / self.batch)
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()
        self.optimiser.step()
        return loss.detach()

    @torch.no_grad()
    def _augmented(self, rows: Int[Tensor, " B"], epoch: int) -> Tensor:
        batch = standardise(self.images.take(rows).float() / 255, self.images.mean, self.images.std)
        config, side = self.config.augment, batch.shape[-1]
        if config.operations:
            seed = derive(self.seed, "pretrain/augment")
            drawn = augmentation.draw(config, seed, rows.to(self.device), epoch, side, side)
            batch = augmentation.apply(batch[:, None], drawn, config)[:, 0]
        return batch.contiguous(memory_format=torch.channels_last) if self.device.type == "cuda" else batch
