"""Trains one network on an image set."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from m3d import augment as augmentation
from m3d.backend import compiler
from m3d.backend.precision import convolutions, encoding, resolve
from m3d.config import Train
from m3d.encoders import Network, build, initialise
from m3d.encoders.registry import is_residual
from m3d.seeding import derive, generator
from m3d.shapes import Float, Int, ShapeError


def train(
    architecture: str,
    images: Float[Tensor, "B C H W"],
    labels: Int[Tensor, " B"] | Float[Tensor, "B classes"],
    *,
    classes: int,
    config: Train,
    seed: int,
    precision: str = "float32",
) -> Network:
    """A network trained from fresh weights on the device of the images.

    Args:
        architecture: a name that ``m3d.encoders.build`` takes.
        images: normalised.
        labels: int64, 0 to classes - 1; or class probabilities, float32 [B, classes].
        classes: outputs of the network.
        config: the protocol.
        seed: of weights, order and augmentation.
        precision: auto, float32, tf32 or bfloat16.

    Returns:
        The network after the last epoch, in evaluation mode.

    Raises:
        ConfigError: an unknown architecture or precision, or images too small for the network.
        ShapeError: images that are not square.
    """
    trainer = Trainer(architecture, images.shape[1:], classes=classes, precision=precision, device=images.device)
    return trainer.train(images, labels, config=config, seed=seed)


class Trainer:
    """Trains networks of one architecture one after another, in place, so that what is compiled serves them all."""

    def __init__(
        self,
        architecture: str,
        shape: Sequence[int],
        *,
        classes: int,
        precision: str = "float32",
        compiled: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        """Args: as for ``train``; ``shape`` is (channels, height, width)."""
        channels, height, width = shape
        if height != width:
            raise ShapeError("images", tuple(shape), "[channels, side, side]: crop them to squares first")
        self.device = torch.device(device)
        self.precision = resolve(precision, self.device)
        self.side = height
        self.network = build(
            architecture,
            channels=channels,
            image_size=height,
            classes=classes,
            generator=generator(0, "evaluate/weights"),
            device=device,
        )
        self._fan_out = is_residual(architecture)
        self._logits = compiler.compiled(self.eager_logits, self.device) if compiled else self.eager_logits

    def eager_logits(self, batch: Tensor) -> Tensor:
        """Logits in the trainer's precision, float32 [B, classes]."""
        with encoding(self.precision, self.device):
            return self.network(batch).float()

    def logits(self, batch: Tensor) -> Tensor:
        """The same, compiled where the trainer is."""
        return self._logits(batch)

    def train(
        self,
        images: Float[Tensor, "B C H W"],
        labels: Int[Tensor, " B"] | Float[Tensor, "B classes"],
        *,
        config: Train,
        seed: int,
        after_epoch: Callable[[int], None] | None = None,
        begin: tuple[int, dict[str, Tensor]] | None = None,
        keep: Callable[[int, Callable[[], dict[str, Tensor]]], None] | None = None,
    ) -> Network:
        """The trainer's network after training from fresh weights, in evaluation mode; the next call changes it.

        Args:
            images, labels, config, seed: as for ``m3d.training.trainer``.
            after_epoch: called with the epochs that are done, the network in evaluation mode.
            begin: epochs that are done and what ``keep`` was given after them, to go on from there to the same network.
            keep: called after every epoch, after ``after_epoch``, with the epochs that are done and a function that gives all tensors to go on with.
        """
        network, device, count = self.network, self.device, len(images)
        labels = labels.to(device)
        initialise(network, generator(seed, "evaluate/weights"), fan_out=self._fan_out)
        optimiser, schedule = optimisation(network.parameters(), config)
        random = torch.Generator(device="cpu").manual_seed(derive(seed, "evaluate/draws"))
        if begin is not None:
            _go_on(network, optimiser, random, begin[1])
            passed = sum(drop <= begin[0] for drop in drops_of(config))
            optimiser.param_groups[0]["lr"] = config.learning_rate * config.decay**passed
            schedule.last_epoch = begin[0]
        network.train()
        for epoch in range(begin[0] if begin else 0, config.epochs):
            order = torch.randperm(count, generator=random)
            for rows in order.split(config.batch):
                # Copies of a few KB need not wait for the device, whose queue would run empty.
                chosen = rows.to(device, non_blocking=True)
                numbers = torch.rand(len(rows), augmentation.slots(), generator=random).to(device, non_blocking=True)
                drawn = augmentation.draw_from(config.augment, numbers, self.side, self.side)
                batch = augmentation.apply(images[chosen][:, None], drawn, config.augment)[:, 0]
                with convolutions(self.precision, device):
                    loss = _loss(self.logits, batch, labels[chosen], config, random)
                    optimiser.zero_grad(set_to_none=True)
                    loss.backward()
                optimiser.step()
            schedule.step()
            if after_epoch is not None:
                network.eval()
                after_epoch(epoch + 1)
                network.train()
            if keep is not None:
                keep(epoch + 1, lambda: _all_tensors(network, optimiser, random))
        return network.eval()


def optimisation(
    parameters: Iterable[Tensor], config: Train
) -> tuple[torch.optim.SGD, torch.optim.lr_scheduler.LRScheduler]:
    """The optimiser of a protocol, and its learning rate's course over epochs."""
    optimiser = torch.optim.SGD(
        parameters, lr=config.learning_rate, momentum=config.momentum, weight_decay=config.weight_decay
    )
    return optimiser, torch.optim.lr_scheduler.MultiStepLR(optimiser, milestones=drops_of(config), gamma=config.decay)


def drops_of(config: Train) -> list[int]:
    """Epochs after which the learning rate falls."""
    return [max(1, int(config.epochs * part)) for part in config.milestones]


def _all_tensors(network: Network, optimiser: torch.optim.SGD, random: torch.Generator) -> dict[str, Tensor]:
    """Copies on the CPU of weights, momentum and random state."""
    held = {"random": random.get_state()}
    for name, parameter in network.named_parameters():
        held[f"weight.{name}"] = parameter.detach().to("cpu", copy=True)
        velocity = optimiser.state[parameter].get("momentum_buffer")
        if velocity is not None:
            held[f"momentum.{name}"] = velocity.to("cpu", copy=True)
    return held


@torch.no_grad()
def _go_on(network: Network, optimiser: torch.optim.SGD, random: torch.Generator, held: dict[str, Tensor]) -> None:
    random.set_state(held["random"])
    for name, parameter in network.named_parameters():
        parameter.copy_(held[f"weight.{name}"])
        velocity = held.get(f"momentum.{name}")
        if velocity is not None:
            optimiser.state[parameter]["momentum_buffer"] = velocity.to(parameter.device, copy=True)


def _loss(
    logits_of: Callable[[Tensor], Tensor], batch: Tensor, labels: Tensor, config: Train, random: torch.Generator
) -> Tensor:
    """Cross-entropy; with CutMix a box of another image of the batch is pasted and its label mixed in by area.

    Source: Yun et al., "CutMix" (2019).
    """
    drawn = draw_cutmix(len(batch), batch.shape[-2], batch.shape[-1], config, random)
    if drawn is None:
        return F.cross_entropy(logits_of(batch), labels)
    partner, (top, bottom, left, right) = drawn[0].to(batch.device, non_blocking=True), drawn[1]
    mixed = batch.clone()
    mixed[:, :, top:bottom, left:right] = batch[partner, :, top:bottom, left:right]
    share = 1 - (bottom - top) * (right - left) / (batch.shape[-2] * batch.shape[-1])
    logits = logits_of(mixed)
    return share * F.cross_entropy(logits, labels) + (1 - share) * F.cross_entropy(logits, labels[partner])


def draw_cutmix(
    count: int, height: int, width: int, config: Train, random: torch.Generator
) -> tuple[Tensor, tuple[int, int, int, int]] | None:
    """Partners of a batch's images and the box (top, bottom, left, right) that they give; None where CutMix rests."""
    if config.cutmix_probability == 0 or float(torch.rand((), generator=random)) >= config.cutmix_probability:
        return None
    return torch.randperm(count, generator=random), _box(height, width, config.cutmix_beta, random)


def _box(height: int, width: int, beta: float, random: torch.Generator) -> tuple[int, int, int, int]:
    keep = _beta(beta, random)
    side = (1 - keep) ** 0.5
    y = int(torch.randint(height, (), generator=random))
    x = int(torch.randint(width, (), generator=random))
    half_y, half_x = int(height * side) // 2, int(width * side) // 2
    return max(0, y - half_y), min(height, y + half_y), max(0, x - half_x), min(width, x + half_x)


def _beta(beta: float, random: torch.Generator) -> float:
    if beta == 1:
        return float(torch.rand((), generator=random))
    # torch's Beta takes no generator, numpy's takes a seed.
    seed = int(torch.randint(2**62, (), generator=random))
    return float(np.random.default_rng(seed).beta(beta, beta))
