"""The cost of one pass of an encoder, counted on a network without weights: nothing is computed or timed."""

from functools import lru_cache

import torch
from torch.utils.flop_counter import FlopCounterMode

from m3d.config import Encoder
from m3d.encoders import architecture


@lru_cache(maxsize=64)
def forward_flops(encoder: Encoder, channels: int, size: int) -> int:
    """Floating-point operations of one image's forward pass; the backward pass to the pixels needs as many again.

    Args:
        encoder: name and width.
        channels: of the image.
        size: side of the image in pixels.
    """
    network = architecture(encoder.name, channels=channels, image_size=size, classes=1, width=encoder.width)
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        network.features(torch.empty(1, channels, size, size, device="meta"))
    return int(counter.get_total_flops())


@lru_cache(maxsize=64)
def kept_numbers(encoder: Encoder, channels: int, size: int) -> int:
    """Activations (number of values) stored per image for the backward pass to the pixels. Arguments as for ``forward_flops``."""
    network = architecture(encoder.name, channels=channels, image_size=size, classes=1, width=encoder.width)
    sizes: dict[int, int] = {}
    alive: list[torch.Tensor] = []  # the identity of a freed storage would be reused

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        sizes[tensor.untyped_storage()._cdata] = tensor.untyped_storage().nbytes() // tensor.element_size()
        alive.append(tensor)
        return tensor

    weights = {parameter.untyped_storage()._cdata for parameter in network.requires_grad_(False).parameters()}
    image = torch.empty(1, channels, size, size, device="meta", requires_grad=True)
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network.features(image)
    return sum(count for storage, count in sizes.items() if storage not in weights)
