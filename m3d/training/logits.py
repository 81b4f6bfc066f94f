"""The forward pass of a network in training."""

import torch
from torch import Tensor, nn

from m3d.backend import compiler
from m3d.backend.precision import encoding
from m3d.encoders import Network


class Logits(nn.Module):
    """Logits of a network in some precision, float32 [B, classes]; a module, so that it can be wrapped in DDP."""

    def __init__(self, network: Network, precision: str, device: torch.device, *, compiled: bool) -> None:
        """Args:
        network: on the device.
        precision: float32, tf32 or bfloat16.
        device: of network and batches.
        compiled: whether to compile the pass.
        """
        super().__init__()
        self.network, self.precision, self.device = network, precision, device
        self._call = compiler.compiled(self.eager, device) if compiled else self.eager

    def eager(self, batch: Tensor) -> Tensor:
        """The pass without a compiler."""
        with encoding(self.precision, self.device):
            return self.network(batch).float()

    def forward(self, batch: Tensor) -> Tensor:
        """The pass, compiled if requested."""
        return self._call(batch)
