"""Trains a network on a whole set of images, by one worker or by several that share every batch.

Order and augmentation are functions of (seed, epoch, image) and a step follows from the whole batch, so several
workers compute what one does, up to rounding. Networks have no norm that looks across a batch.

B  images of a worker's part of a batch    C, H, W  channels, height, width
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from m3d import augment as augmentation
from m3d.backend import compiler
from m3d.backend.precision import convolutions, encoding, resolve
from m3d.config import ConfigError, WholeTrain
from m3d.encoders import Network, build, initialise
from m3d.encoders.registry import is_residual
from m3d.seeding import derive, generator
from m3d.shapes import Int, ShapeError, UInt8
from m3d.state import standardise

HELD_BYTES = 2**31
"""Up to so much the images are copied to the device; larger sets are read batch by batch from where they are."""
STEPS = (1 / 2, 3 / 4, 7 / 8)
"""Parts of the training after which the ``steps`` schedule multiplies the rate by ``STEP_DECAY``."""
STEP_DECAY = 0.2


@dataclass(frozen=True, kw_only=True)
class Part:
    """Which worker of how many: it takes its slice of every batch."""

    rank: int = 0
    world: int = 1

    def of(self, count: int) -> slice:
        """The slice of ``count`` things that is this worker's; slices differ in length by one at most."""
        return slice(count * self.rank // self.world, count * (self.rank + 1) // self.world)


class RowImages:
    """The images of all classes under one row number each, class by class."""

    def __init__(self, classes: Sequence[UInt8[Tensor, "_ C H W"]], device: torch.device | str = "cpu") -> None:
        """Args: one uint8 tensor per class, in label order; memory-mapped ones stay so if they are large."""
        self.device = torch.device(device)
        self.shape = tuple(classes[0].shape[1:])
        if any(tuple(images.shape[1:]) != self.shape for images in classes):
            raise ShapeError(
                "images", tuple(classes[-1].shape), f"[n, {', '.join(map(str, self.shape))}] in every class"
            )
        counts = torch.tensor([len(images) for images in classes])
        self.labels = torch.arange(len(classes)).repeat_interleave(counts)
        self._first, self.classes = counts.cumsum(0) - counts, len(counts)
        held = len(self.labels) * math.prod(self.shape) <= HELD_BYTES
        self._parts = [torch.cat(list(classes)).to(self.device)] if held else list(classes)

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: Int[Tensor, " B"]) -> UInt8[Tensor, "B C H W"]:
        """Images of some rows (int64 on the CPU), on the device."""
        if len(self._parts) == 1:
            return self._parts[0].index_select(0, rows.to(self.device))
        taken = torch.empty((len(rows), *self.shape), dtype=torch.uint8)
        labels = self.labels[rows]
        for label in labels.unique().tolist():
            here = (labels == label).nonzero()[:, 0]
            taken[here] = self._parts[label].index_select(0, rows[here] - self._first[label])
        return taken.to(self.device)


def rate_at(config: WholeTrain, step: int, steps: int) -> float:
    """The learning rate of one step.

    Linear from 0 (exclusive) in the first ``warmup * steps``; then ``rate (1 + cos(pi t)) / 2`` with t the part of
    the rest that is done, or by ``STEPS`` of the whole.

    Args:
        config: schedule and its highest rate.
        step: from 0.
        steps: of the whole training.
    """
    rising = int(config.warmup * steps)
    if step < rising:
        return config.learning_rate * (step + 1) / (rising + 1)
    if config.schedule == "steps":
        return config.learning_rate * STEP_DECAY ** sum(step >= part * steps for part in STEPS)
    return config.learning_rate * (1 + math.cos(math.pi * (step - rising) / (steps - rising))) / 2


class _Logits(nn.Module):
    """The forward pass in the trainer's precision, float32 [B, classes]; a module, so that it can be wrapped."""

    def __init__(self, network: Network, precision: str, device: torch.device, *, compiled: bool) -> None:
        super().__init__()
        self.network, self.precision, self.device = network, precision, device
        self._call = compiler.compiled(self._eager, device) if compiled else self._eager

    def _eager(self, batch: Tensor) -> Tensor:
        with encoding(self.precision, self.device):
            return self.network(batch).float()

    def forward(self, batch: Tensor) -> Tensor:
        return self._call(batch)


class WholeSetTrainer:
    """Trains networks of one architecture one after another, in place, epoch by epoch."""

    def __init__(
        self,
        architecture: str,
        images: RowImages,
        *,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        config: WholeTrain,
        precision: str = "float32",
        compiled: bool = False,
        part: Part | None = None,
        parallel: Callable[[nn.Module], nn.Module] | None = None,
    ) -> None:
        """Args:
        architecture: a name that ``m3d.encoders.build`` takes.
        images: the whole training set; every worker has all of it at hand and reads its own part.
        mean, std: per channel, for images in [0, 1].
        config: the learning rule.
        precision: auto, float32, tf32 or bfloat16.
        compiled: whether the network is compiled.
        part: which worker this is.
        parallel: wraps the forward pass so that gradients are averaged over the workers, such as DDP; needed
            where there are several.

        Raises:
            ConfigError: an unknown architecture, or images too small for the network or too few for the workers.
        """
        channels, height, width = images.shape
        if height != width:
            raise ShapeError("images", images.shape, "[channels, side, side]: crop them to squares first")
        self.images, self.config, self.part = images, config, part or Part()
        self.batch = min(config.batch, len(images))
        if self.batch < self.part.world:
            raise ConfigError(f"pretrain.workers: {self.part.world} workers for batches of {self.batch} images")
        self.device, self.mean, self.std = images.device, mean, std
        self.precision = resolve(precision, self.device)
        self.compiled = compiled
        first = generator(0, "pretrain/weights")
        self.network = build(
            architecture,
            channels=channels,
            image_size=height,
            classes=images.classes,
            generator=first,
            device=self.device,
        )
        if self.device.type == "cuda":
            self.network = self.network.to(memory_format=torch.channels_last)
        self._fan_out = is_residual(architecture)
        logits = _Logits(self.network, self.precision, self.device, compiled=compiled)
        self._logits = parallel(logits) if parallel else logits
        self.start(0)

    @property
    def steps(self) -> int:
        """Steps of an epoch: whole batches only, another few images being left out in every epoch."""
        return len(self.images) // self.batch

    def start(self, seed: int) -> None:
        """Fresh weights and momentum of a seed."""
        self.seed = seed
        initialise(self.network, generator(seed, "pretrain/weights"), fan_out=self._fan_out)
        rule = self.config
        self.optimiser = torch.optim.SGD(
            self.network.parameters(), lr=rule.learning_rate, momentum=rule.momentum, weight_decay=rule.weight_decay
        )

    def epoch(self, epoch: int, after_step: Callable[[int], None] | None = None) -> float:
        """Trains for one epoch; returns the mean loss over its images, the same on every worker.

        Args:
            epoch: from 0: it decides order, augmentation and rate.
            after_step: called with the number of steps done in this epoch.
        """
        self.network.train()
        total = torch.zeros((), device=self.device)
        for step, rows in enumerate(self._batches(epoch)):
            self.optimiser.param_groups[0]["lr"] = rate_at(
                self.config, epoch * self.steps + step, self.config.epochs * self.steps
            )
            total += self._step(epoch, rows)
            if after_step:
                after_step(step + 1)
        if self.part.world > 1:
            dist.all_reduce(total)
        return float(total) / self.part.world / self.steps

    def _batches(self, epoch: int) -> Iterator[Tensor]:
        order = torch.randperm(len(self.images), generator=generator(self.seed, "pretrain/order", epoch))
        mine = self.part.of(self.batch)
        for step in range(self.steps):
            yield order[step * self.batch : (step + 1) * self.batch][mine]

    def _step(self, epoch: int, rows: Int[Tensor, " B"]) -> Tensor:
        batch = self._augmented(rows, epoch)
        labels = self.images.labels[rows].to(self.device, non_blocking=True)
        with convolutions(self.precision, self.device):
            # Gradients are averaged over workers, whose parts may differ by an image: scaled so that the average is
            # the gradient of the whole batch's mean.
            loss = F.cross_entropy(self._logits(batch), labels, reduction="sum") * (self.part.world / self.batch)
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()
        self.optimiser.step()
        return loss.detach()

    @torch.no_grad()
    def _augmented(self, rows: Int[Tensor, " B"], epoch: int) -> Tensor:
        batch = standardise(self.images.take(rows).float() / 255, self.mean, self.std)
        config, side = self.config.augment, batch.shape[-1]
        if config.operations:
            seed = derive(self.seed, "pretrain/augment")
            drawn = augmentation.draw(config, seed, rows.to(self.device), epoch, side, side)
            batch = augmentation.apply(batch[:, None], drawn, config)[:, 0]
        return batch.contiguous(memory_format=torch.channels_last) if self.device.type == "cuda" else batch

    def tensors(self) -> dict[str, Tensor]:
        """Weights (``weights.NAME``) and momentum (``momentum.NAME``) on the CPU: all that goes on to the next epoch."""
        held = {f"weights.{name}": value for name, value in self.network.state_dict().items()}
        for name, parameter in self.network.named_parameters():
            momentum = self.optimiser.state.get(parameter, {}).get("momentum_buffer")
            if momentum is not None:
                held[f"momentum.{name}"] = momentum
        return {name: value.detach().to("cpu", copy=True).contiguous() for name, value in held.items()}

    def restore(self, seed: int, tensors: Mapping[str, Tensor]) -> None:
        """Takes up what ``tensors`` gave of a seed's training."""
        self.start(seed)
        self.network.load_state_dict(weights_of(tensors))
        for name, parameter in self.network.named_parameters():
            if f"momentum.{name}" in tensors:
                momentum = tensors[f"momentum.{name}"].to(self.device, copy=True)
                self.optimiser.state[parameter]["momentum_buffer"] = momentum.view_as(parameter)


def weights_of(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights alone, by the network's own names."""
    return {name.removeprefix("weights."): value for name, value in tensors.items() if name.startswith("weights.")}
