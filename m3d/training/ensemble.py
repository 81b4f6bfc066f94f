"""Several networks of one architecture trained as one: stacked weights, one pass for all of them.

Each network gets exactly the draws that ``Trainer`` gives it (weights, order, augmentation, CutMix), so its accuracy is
the same up to rounding. This pays if one network leaves the device idle: small sets and small networks.

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
from m3d.encoders import Network, build
from m3d.pulse import beat
from m3d.seeding import derive, generator
from m3d.shapes import Float, Int
from m3d.training.cutmix import draw_cutmix
from m3d.training.settings import Recipe, Train
from m3d.training.trainer import optimisation


def pays(architecture: str, device: torch.device) -> bool:
    """Whether networks are trained faster as one than one after another.

    Measured on one CPU thread with five networks and 40 images of 16 px: the MLP needs 0.45 of the time, ConvNet-3 2.4
    times as long, since stacked convolutions become grouped ones. GPUs were not measured; there, compiled networks are
    trained one after another.
    """
    return device.type == "cpu" and architecture == "mlp"


def train_together(
    recipe: Recipe,
    images: Float[Tensor, "S B C H W"],
    labels: Int[Tensor, " B"],
    *,
    classes: int,
    seeds: Sequence[int],
) -> list[Network]:
    """One network per seed after the last epoch, in evaluation mode, in the order of the seeds.

    Args:
        recipe: network and training; ``compiled`` is not used.
        images: normalised, one set per network; expanded rather than copied if all networks share one.
        labels: of the images of every set, 0 to classes - 1.
        classes: outputs of the networks.
        seeds: one per network.
    """
    config, device, count = recipe.training, images.device, images.shape[1]
    precision, labels = resolve(recipe.precision, device), labels.to(device)
    networks = [_fresh(recipe.architecture, images, classes, seed) for seed in seeds]
    weights, _ = stack_module_state(list(networks))  # type: ignore[arg-type]
    skeleton = _fresh(recipe.architecture, images, classes, 0)
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
                # vmap has no rule for fused attention.
                with encoding(precision, device), sdpa_kernel(SDPBackend.MATH):
                    logits = logits_of(weights, batch).float()
                other_SB = own_SB.gather(1, partner_SB)
                # Each network's loss depends on its own weights alone, so the sum gives every gradient.
                loss_S = share_S * _loss(logits, own_SB) + (1 - share_S) * _loss(logits, other_SB)
                optimiser.zero_grad(set_to_none=True)
                loss_S.sum().backward()
            optimiser.step()
            beat()
        schedule.step()
    for index, network in enumerate(networks):
        network.load_state_dict({name: value[index].detach() for name, value in weights.items()})
    return [network.eval() for network in networks]


def _fresh(architecture: str, images: Tensor, classes: int, seed: int) -> Network:
    return build(
        architecture,
        channels=images.shape[2],
        image_size=images.shape[-1],
        classes=classes,
        generator=generator(seed, "evaluate/weights"),
        device=images.device,
    ).train()


def _augmented(images: Tensor, rows_SB: Tensor, config: Train, randoms: Sequence[torch.Generator]) -> Tensor:
    """The chosen rows of every network's set, augmented with the network's own draws, [S, B, C, H, W]."""
    networks, count = rows_SB.shape
    side = images.shape[-1]
    numbers = torch.cat([torch.rand(count, augmentation.slots(), generator=random) for random in randoms])
    drawn = augmentation.draw_from(config.augment, numbers.to(images.device), side, side)
    chosen = images[torch.arange(networks, device=images.device)[:, None], rows_SB]
    return augmentation.apply(chosen.flatten(0, 1)[:, None], drawn, config.augment)[:, 0].view_as(chosen)


def _cut_and_mixed(batch: Tensor, config: Train, randoms: Sequence[torch.Generator]) -> tuple[Tensor, Tensor, Tensor]:
    """Batch, partners [S, B] and own shares [S] after CutMix; a network without CutMix in this step has share 1."""
    mixed, partners, shares = [], [], []
    for images, random in zip(batch, randoms, strict=True):
        cutmix = draw_cutmix(images, config, random)
        mixed.append(images if cutmix is None else cutmix.paste(images))
        partners.append(torch.arange(len(images), device=batch.device) if cutmix is None else cutmix.partner_B)
        shares.append(1 if cutmix is None else cutmix.share(batch.shape[-2], batch.shape[-1]))
    return torch.stack(mixed), torch.stack(partners), torch.tensor(shares, dtype=torch.float32, device=batch.device)


def _loss(logits: Float[Tensor, "S B classes"], labels: Int[Tensor, "S B"]) -> Float[Tensor, " S"]:
    """Mean cross-entropy of every network."""
    return F.cross_entropy(logits.mT, labels, reduction="none").mean(1)
