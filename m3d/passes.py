"""The encoder's passes: normalise, augment and encode, in blocks, as one function that a compiler fuses.

B  images of a block    P  random numbers of an augmentation    D  features
"""

from collections.abc import Callable, Iterator
from functools import lru_cache

import torch
from torch import Tensor

from m3d import augment as augmentation
from m3d.backend.compiler import compiled
from m3d.backend.execution import Execution
from m3d.backend.precision import encoding
from m3d.config import Augment, Encoder, Kernel
from m3d.encoders import Network, build, initialise
from m3d.encoders.registry import is_residual
from m3d.formation import enlarge
from m3d.mmd import mmd2
from m3d.seeding import generator


class Passes:
    """One encoder on one device and what goes before it. Its weights are drawn anew in place: nothing recompiles."""

    def __init__(
        self,
        encoder: Encoder,
        augment: Augment,
        kernel: Kernel,
        shape: tuple[int, int, int],
        mean: tuple[float, ...],
        std: tuple[float, ...],
        execution: Execution,
        device: torch.device,
    ) -> None:
        """Args: see Condenser; ``shape`` is (channels, height, width)."""
        self.network = build(
            encoder.name,
            channels=shape[0],
            image_size=shape[1],
            classes=1,
            generator=generator(0, "encoder", 0),
            width=encoder.width,
            device=device,
        ).requires_grad_(False)
        self.execution, self.kernel = execution, kernel
        self._fan_out = is_residual(encoder.name)
        self._drawn: tuple[int, int] | None = None
        self._features = _features(self.network, augment, shape, mean, std, execution.precision, device)
        self._encode = compiled(self._features, device) if execution.compiled else self._features
        self._mmd2 = compiled(_mmd2, device) if execution.compiled else _mmd2

    def draw_weights(self, seed: int, index: int) -> None:
        """Gives the encoder the weights of model ``index`` of a run, in place."""
        if self._drawn != (seed, index):
            initialise(self.network, generator(seed, "encoder", index), fan_out=self._fan_out)
            self._drawn = (seed, index)

    @torch.no_grad()
    def real(self, pixels_TCHW: Tensor, rows: Tensor, numbers: Tensor) -> Tensor:
        """Features of real images, float32 [rows, D].

        Args:
            pixels_TCHW: uint8 images.
            rows: which of them, int64 on their device.
            numbers: of the augmentation, a row per image, [rows, P].
        """
        parts = [
            self._encode(pixels_TCHW.index_select(0, part), numbers[where])
            for part, where in blocks(rows, self.execution.real_block)
        ]
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def views(self, tiles: Tensor, numbers: Tensor) -> Tensor:
        """Features of views, float32 [views, D], with a way back to the tiles where they require gradients.

        Args:
            tiles: in [0, 1], before up-sampling, [views, C, h, w].
            numbers: a row per view, [views, P].
        """
        return self._encode(tiles, numbers)

    def loss(self, syn_KMD: Tensor, real_KND: Tensor, *, real_term: bool) -> Tensor:
        """The squared MMD per class, [K]; with the real-by-real term, at log iterations, eagerly."""
        loss = mmd2 if real_term else self._mmd2
        return loss(syn_KMD, real_KND, self.kernel, real_term=real_term)


@lru_cache(maxsize=4)
def passes(
    encoder: Encoder,
    augment: Augment,
    kernel: Kernel,
    shape: tuple[int, int, int],
    mean: tuple[float, ...],
    std: tuple[float, ...],
    execution: Execution,
    device: torch.device,
) -> Passes:
    """The same passes for the same arguments, so that the groups of a process share what is compiled."""
    return Passes(encoder, augment, kernel, shape, mean, std, execution, device)


def blocks(rows: Tensor, limit: int) -> Iterator[tuple[Tensor, slice]]:
    """Parts of nearly equal length, at most ``limit``, all but the last alike; with where they lie."""
    size = block_size(len(rows), limit)
    for start in range(0, len(rows), size):
        yield rows[start : start + size], slice(start, start + size)


def block_size(total: int, limit: int) -> int:
    """The length of the parts when ``total`` is cut into as few parts of at most ``limit`` as can be."""
    return -(-total // -(-total // limit))


def _mmd2(syn_KMD: Tensor, real_KND: Tensor, kernel: Kernel, *, real_term: bool) -> Tensor:
    # A function of its own, so that a compiler sees one name whoever asks for the loss.
    return mmd2(syn_KMD, real_KND, kernel, real_term=real_term)


def _features(
    network: Network,
    augment: Augment,
    shape: tuple[int, int, int],
    mean: tuple[float, ...],
    std: tuple[float, ...],
    precision: str,
    device: torch.device,
) -> Callable[[Tensor, Tensor], Tensor]:
    size = shape[1:]
    mean_C11 = torch.tensor(mean, device=device).view(-1, 1, 1)
    std_C11 = torch.tensor(std, device=device).view(-1, 1, 1)

    def features(images: Tensor, numbers_BP: Tensor) -> Tensor:
        images = images.float() / 255 if images.dtype == torch.uint8 else enlarge(images, size)
        images = (images - mean_C11) / std_C11
        drawn = augmentation.draw_from(augment, numbers_BP, *size)
        with encoding(precision, device):
            # A crop moves pixels by products with 0/1 matrices. In bfloat16 it moves what the first convolution would
            # have rounded alike, several times faster.
            images = augmentation.apply(images[:, None], drawn, augment)[:, 0]
            return network.features(images).float()

    return features
