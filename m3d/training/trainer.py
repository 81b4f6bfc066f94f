"""Trains one network on an image set."""

from collections.abc import Callable, Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from m3d import augment as augmentation
from m3d.backend.precision import convolutions, resolve
from m3d.encoders import Network, build
from m3d.pulse import beat
from m3d.seeding import derive, generator
from m3d.shapes import Float, Int, ShapeError
from m3d.training.cutmix import draw_cutmix
from m3d.training.logits import Logits
from m3d.training.settings import Train
from m3d.training.snapshot import restore, snapshot

WEIGHTS, RANDOM = "weight", "random"
"""Prefix of the weights, and name of the random state, among the tensors of a network in training."""


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
        architecture: a name that ``m3d.encoders.build`` accepts.
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
    """Trains networks of one architecture one after another, in place, so that all of them use the same compiled code."""

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
        """Args:
        architecture: a name that ``m3d.encoders.build`` accepts.
        shape: channels, height, width of the images.
        classes: outputs of the networks.
        precision: auto, float32, tf32 or bfloat16.
        compiled: whether the networks are compiled.
        device: of networks and images.

        Raises:
            ConfigError: an unknown architecture or precision, or images too small for the network.
            ShapeError: images that are not square.
        """
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
        self.logits = Logits(self.network, self.precision, self.device, compiled=compiled)

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
            images: as for ``m3d.train``, like ``labels``, ``config`` and ``seed``.
            after_epoch: called with the number of finished epochs, with the network in evaluation mode.
            begin: where to resume: finished epochs, and the tensors that ``keep`` was given after them. The result is
                the same network.
            keep: called after every epoch, after ``after_epoch``, with the number of finished epochs and a function
                that returns all tensors needed to resume.
        """
        network, device, labels = self.network, self.device, labels.to(self.device)
        network.reset_parameters(generator(seed, "evaluate/weights"))
        optimiser, schedule = optimisation(network.parameters(), config)
        random = torch.Generator(device="cpu").manual_seed(derive(seed, "evaluate/draws"))
        finished = 0
        if begin is not None:
            finished, tensors = begin
            random.set_state(tensors[RANDOM])
            restore(network, optimiser, tensors, weights=WEIGHTS)
            passed = sum(drop <= finished for drop in drops_of(config))
            optimiser.param_groups[0]["lr"] = config.learning_rate * config.decay**passed
            schedule.last_epoch = finished
        network.train()
        for epoch in range(finished, config.epochs):
            order = torch.randperm(len(images), generator=random)
            for rows in order.split(config.batch):
                # Copies of a few KB must not wait for the device, whose queue would run empty.
                chosen = rows.to(device, non_blocking=True)
                numbers = torch.rand(len(rows), augmentation.slots(), generator=random).to(device, non_blocking=True)
                drawn = augmentation.draw_from(config.augment, numbers, self.side, self.side)
                batch = augmentation.apply(images[chosen][:, None], drawn, config.augment)[:, 0]
                with convolutions(self.precision, device):
                    loss = _loss(self.logits, batch, labels[chosen], config, random)
                    optimiser.zero_grad(set_to_none=True)
                    loss.backward()
                optimiser.step()
                beat()
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
    """The optimiser of a protocol, and the schedule of its learning rate over the epochs."""
    optimiser = torch.optim.SGD(
        parameters, lr=config.learning_rate, momentum=config.momentum, weight_decay=config.weight_decay
    )
    return optimiser, torch.optim.lr_scheduler.MultiStepLR(optimiser, milestones=drops_of(config), gamma=config.decay)


def drops_of(config: Train) -> list[int]:
    """Epochs after which the learning rate drops."""
    return [max(1, int(config.epochs * fraction)) for fraction in config.milestones]


def _all_tensors(network: Network, optimiser: torch.optim.SGD, random: torch.Generator) -> dict[str, Tensor]:
    """Copies on the CPU of weights, momentum and random state."""
    return {RANDOM: random.get_state(), **snapshot(network, optimiser, weights=WEIGHTS)}


def _loss(
    logits_of: Callable[[Tensor], Tensor], batch: Tensor, labels: Tensor, config: Train, random: torch.Generator
) -> Tensor:
    """Cross-entropy of a batch. With CutMix, the labels of both images of a pair count by their area."""
    cutmix = draw_cutmix(batch, config, random)
    if cutmix is None:
        return F.cross_entropy(logits_of(batch), labels)
    share = cutmix.share(batch.shape[-2], batch.shape[-1])
    logits = logits_of(cutmix.paste(batch))
    own, other = F.cross_entropy(logits, labels), F.cross_entropy(logits, labels[cutmix.partner_B])
    return share * own + (1 - share) * other
