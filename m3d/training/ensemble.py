"""Several networks of one architecture trained as one: their weights stacked, one pass for all of them.

Each network gets exactly the draws that ``Trainer`` gives it (weights, order, augmentation, CutMix), so its figure is the
same up to rounding. It pays where one network leaves the device idle: small sets and small networks on a GPU.

    S  networks (seeds)    B  images
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from m3d import augment as augmentation
from m3d.backend.precision import convolutions, encoding, resolve
from m3d.config import Train
from m3d.encoders import Network, build
from m3d.seeding import derive, generator
from m3d.shapes import Float, Int
from m3d.training.trainer import draw_cutmix, optimisation


def pays(architecture: str, device: torch.device) -> bool:
    """Whether networks are faster trained as one than one after another.

    On a CPU thread, five of 40 images of 16 px: the MLP takes 0.45 of the time, ConvNet-3 2.4 times as long, since stacked
    convolutions become grouped ones. On a GPU it was not measured; compiled passes go one after another there.
    """
    return device.type == "cpu" and architecture == "mlp"


def train_together(
    architecture: str,
    images: Float[Tensor, "S B C H W"],
    labels: Int[Tensor, " B"],
    *,
    classes: int,
    config: Train,
    seeds: Sequence[int],
    precision: str = "float32",
) -> list[Network]:
    """A network per seed after the last epoch, in evaluation mode, in the order of the seeds.

    Args:
        architecture, config, precision: as ``train`` takes them.
        images: normalised, a set per network; expanded rather than copied where all networks share one.
        labels: of every set's images, 0 to classes - 1.
        classes: outputs of the networks.
        seeds: one network each.
    """
    device, count = images.device, images.shape[1]
    precision, labels = resolve(precision, device), labels.to(device)
    networks = [_fresh(architecture, images, classes, seed) for seed in seeds]
    weights, _ = stack_module_state(list(networks))  # type: ignore[arg-type]
    skeleton = _fresh(architecture, images, classes, 0)
    optimiser, schedule = optimisation(weights.values(), config)
    randoms = [torch.Generator(device="cpu").manual_seed(derive(seed, "evaluate/draws")) for seed in seeds]
    logits_of = vmap(lambda one, x: functional_call(skeleton, one, (x,)))
    for _ in range(config.epochs):
        orders = torch.stack([torch.randperm(count, generator=random) for random in randoms])
        for rows_SB in orders.split(config.batch, 1):
            batch = _augmented(images, rows_SB.to(device), config, randoms)
            batch, partner_SB, share_S = _cut_and_mixed(batch, config, randoms)
            own_SB = labels[rows_SB.to(device)]
            with convolutions(precision, device):
                # vmap has no rule for the fused attention.
                with encoding(precision, device), sdpa_kernel(SDPBackend.MATH):
                    logits = logits_of(weights, batch).float()
                other_SB = own_SB.gather(1, partner_SB)
                # Each network's loss reaches its own weights alone, so the sum gives every gradient.
                loss_S = share_S * _loss(logits, own_SB) + (1 - share_S) * _loss(logits, other_SB)
                optimiser.zero_grad(set_to_none=True)
                loss_S.sum().backward()
            optimiser.step()
        schedule.step()
    for index, network in enumerate(networks):
        network.load_state_dict({name: value[index].detach() for name, value in weights.items()})
    return [network.eval() for network in networks]


def _fresh(architecture: str, images: Tensor, classes: int, seed: int) -> Network:
    random = generator(seed, "evaluate/weights")
    channels, side = images.shape[2], images.shape[-1]
    device = images.device
    return build(
        architecture, channels=channels, image_size=side, classes=classes, generator=random, device=device
    ).train()


def _augmented(images: Tensor, rows_SB: Tensor, config: Train, randoms: Sequence[torch.Generator]) -> Tensor:
    """The rows of every network's set, augmented with its own draws, [S, B, C, H, W]."""
    networks, count = rows_SB.shape
    side = images.shape[-1]
    numbers = torch.cat([torch.rand(count, augmentation.slots(), generator=random) for random in randoms])
    drawn = augmentation.draw_from(config.augment, numbers.to(images.device), side, side)
    chosen = images[torch.arange(networks, device=images.device)[:, None], rows_SB]
    return augmentation.apply(chosen.flatten(0, 1)[:, None], drawn, config.augment)[:, 0].view_as(chosen)


def _cut_and_mixed(batch: Tensor, config: Train, randoms: Sequence[torch.Generator]) -> tuple[Tensor, Tensor, Tensor]:
    """Batch, partners [S, B] and own share [S] after CutMix; a network whose CutMix rests has the share 1."""
    count, height, width = batch.shape[1], batch.shape[-2], batch.shape[-1]
    mixed, shares, partners = batch.clone(), [], []
    for index, random in enumerate(randoms):
        drawn = draw_cutmix(count, height, width, config, random)
        partner, (top, bottom, left, right) = drawn or (torch.arange(count), (0, 0, 0, 0))
        partner = partner.to(batch.device)
        mixed[index, :, :, top:bottom, left:right] = batch[index, partner, :, top:bottom, left:right]
        shares.append(1 - (bottom - top) * (right - left) / (height * width))
        partners.append(partner)
    return mixed, torch.stack(partners), torch.tensor(shares, device=batch.device)


def _loss(logits: Float[Tensor, "S B classes"], labels: Int[Tensor, "S B"]) -> Float[Tensor, " S"]:
    """Mean cross-entropy of every network."""
    return F.cross_entropy(logits.mT, labels, reduction="none").mean(1)
