"""What one pass of an encoder costs, counted on a network without weights: nothing runs and nothing is timed."""

from functools import lru_cache

import torch
from torch.utils.flop_counter import FlopCounterMode

from m3d.config import Encoder
from m3d.encoders import architecture


@lru_cache(maxsize=64)
def forward_flops(encoder: Encoder, channels: int, size: int) -> int:
    """Floating-point operations of one image's forward pass; the pass back to the pixels takes as many again.

    Args:
        encoder: name and width.
        channels, size: of the images; ``size`` in pixels a side.
    """
    network = architecture(encoder.name, channels=channels, image_size=size, classes=1, width=encoder.width)
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        network.features(torch.empty(1, channels, size, size, device="meta"))
    return int(counter.get_total_flops())


@lru_cache(maxsize=64)
def kept_numbers(encoder: Encoder, channels: int, size: int) -> int:
    """Activations that one image's forward pass keeps for the pass back to the pixels: a count of numbers."""
    network = architecture(encoder.name, channels=channels, image_size=size, classes=1, width=encoder.width)
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor.untyped_storage().nbytes() // tensor.element_size()
        held.append(tensor)
        return tensor

    held: list[torch.Tensor] = []  # a storage that is freed gives its identity to the next one
    weights = {parameter.untyped_storage()._cdata for parameter in network.requires_grad_(False).parameters()}
    image = torch.empty(1, channels, size, size, device="meta", requires_grad=True)
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network.features(image)
    return sum(count for storage, count in kept.items() if storage not in weights)
