"""The encoder's passes: normalise, augment and encode blocks of images, as one function that a compiler can fuse.

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
from m3d.config import Augment, Kernel, Method
from m3d.encoders import Network, build
from m3d.formation import enlarge
from m3d.mmd import mmd2
from m3d.seeding import generator
from m3d.shapes import ImageSpec


class Passes:
    """One encoder on one device, and the steps before it. Its weights are redrawn in place, so nothing recompiles."""

    def __init__(self, method: Method, images: ImageSpec, execution: Execution, device: torch.device) -> None:
        """Args:
        method: kernel, augmentation and encoder; the schedule is not used.
        images: shape and normalisation of the images.
        execution: precision, block sizes, and whether to compile.
        device: of the encoder.
        """
        encoder = method.encoder
        self.network = build(
            encoder.name,
            channels=images.shape[0],
            image_size=images.shape[1],
            classes=1,
            generator=generator(0, "encoder", 0),
            width=encoder.width,
            device=device,
        ).requires_grad_(False)
        self.execution, self.kernel = execution, method.kernel
        self._drawn: tuple[int, int] | None = None
        self._features = _features(self.network, method.augment, images, execution.precision, device)
        self._encode = compiled(self._features, device) if execution.compiled else self._features
        self._mmd2 = compiled(_mmd2, device) if execution.compiled else _mmd2

    def draw_weights(self, seed: int, index: int) -> None:
        """Gives the encoder the weights of model number ``index`` of a run, in place."""
        if self._drawn != (seed, index):
            self.network.reset_parameters(generator(seed, "encoder", index))
            self._drawn = (seed, index)

    @torch.no_grad()
    def real(self, pixels_TCHW: Tensor, rows: Tensor, numbers: Tensor) -> Tensor:
        """Features of real images, float32 [rows, D].

        Args:
            pixels_TCHW: uint8 images.
            rows: of the images to encode, int64 on their device.
            numbers: random numbers of the augmentation, one row per image, [rows, P].
        """
        parts = [
            self._encode(pixels_TCHW.index_select(0, part), numbers[where])
            for part, where in blocks(rows, self.execution.real_block)
        ]
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def views(self, tiles: Tensor, numbers: Tensor) -> Tensor:
        """Features of views, float32 [views, D], differentiable by the tiles if they require gradients.

        Args:
            tiles: in [0, 1], before up-sampling, [views, C, h, w].
            numbers: random numbers of the augmentation, one row per view, [views, P].
        """
        return self._encode(tiles, numbers)

    def loss(self, syn_KMD: Tensor, real_KND: Tensor, *, real_term: bool) -> Tensor:
        """The squared MMD per class, [K]. With the real-by-real term, which only log iterations need, it is not compiled."""
        loss = mmd2 if real_term else self._mmd2
        return loss(syn_KMD, real_KND, self.kernel, real_term=real_term)


def passes(method: Method, images: ImageSpec, execution: Execution, device: torch.device) -> Passes:
    """The same passes for the same arguments, so that the groups of a process share compiled code.

    Arguments are those of ``Passes``. Methods that differ only in their schedule share their passes.
    """
    return _shared(method.matching, images, execution, device)


def forget_passes() -> None:
    """Drops all shared passes, with the code and the CUDA graphs that were made for them."""
    _shared.cache_clear()


@lru_cache(maxsize=4)
def _shared(method: Method, images: ImageSpec, execution: Execution, device: torch.device) -> Passes:
    return Passes(method, images, execution, device)


def blocks(rows: Tensor, limit: int) -> Iterator[tuple[Tensor, slice]]:
    """Parts of at most ``limit`` rows and their slices; all parts but the last have the same length."""
    size = block_size(len(rows), limit)
    for start in range(0, len(rows), size):
        yield rows[start : start + size], slice(start, start + size)


def block_size(total: int, limit: int) -> int:
    """Length of the parts if ``total`` rows are cut into as few parts of at most ``limit`` as possible."""
    return -(-total // -(-total // limit))


def _mmd2(syn_KMD: Tensor, real_KND: Tensor, kernel: Kernel, *, real_term: bool) -> Tensor:
    # A separate function, so that the compiler sees one name for all callers.
    return mmd2(syn_KMD, real_KND, kernel, real_term=real_term)


def _features(
    network: Network, augment: Augment, images: ImageSpec, precision: str, device: torch.device
) -> Callable[[Tensor, Tensor], Tensor]:
    size = images.shape[1:]
    mean_C11 = torch.tensor(images.mean, device=device).view(-1, 1, 1)
    std_C11 = torch.tensor(images.std, device=device).view(-1, 1, 1)

    def features(images: Tensor, numbers_BP: Tensor) -> Tensor:
        images = images.float() / 255 if images.dtype == torch.uint8 else enlarge(images, size)
        images = (images - mean_C11) / std_C11
        drawn = augmentation.draw_from(augment, numbers_BP, *size)
        with encoding(precision, device):
            # A crop moves pixels by products with 0/1 matrices. In bfloat16 it rounds the pixels as the first
            # convolution would, and is several times faster.
            images = augmentation.apply(images[:, None], drawn, augment)[:, 0]
            return network.features(images).float()

    return features
