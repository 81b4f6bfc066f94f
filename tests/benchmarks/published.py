"""The published loop in outline, for comparison: one class at a time, float32, eager, one optimiser step per class.

It follows the description of the method: real images under ``no_grad``, an encoder whose weights get gradients
as well, augmentation by index gathers, the kernel of the complete joint batch with its real-by-real block, and SGD with
momentum over the tensor of all classes for every class.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from m3d import Augment, Condense, Encoder
from m3d.backend.precision import convolutions
from m3d.encoders import build
from m3d.seeding import generator


class Published:
    """Steps as the published code does; one ``sweep`` visits every class once."""

    def __init__(
        self, images_KNCHW: Tensor, pixels_KSCHW: Tensor, *, condense: Condense, encoder: Encoder, augment: Augment
    ) -> None:
        self.condense, self.augment = condense, augment
        self.mean, self.std = 0.5, 0.25
        self.real = (images_KNCHW.float() / 255 - self.mean) / self.std
        self.pixels = pixels_KSCHW.clone().requires_grad_(True)
        self.optimiser = torch.optim.SGD([self.pixels], lr=condense.step_size, momentum=condense.momentum)
        channels, side = images_KNCHW.shape[2], images_KNCHW.shape[3]
        self.network = build(
            encoder.name,
            channels=channels,
            image_size=side,
            classes=len(images_KNCHW),
            generator=generator(0, "published"),
            device=images_KNCHW.device,
        )
        self.sweeps = 0

    def sweep(self) -> None:
        """Runs one iteration: every class once, in float32 also on a GPU."""
        with convolutions("float32", self.pixels.device):
            self._sweep()

    def _sweep(self) -> None:
        if self.sweeps % self.condense.iterations_per_model == 0:
            self.network.reset_parameters(generator(0, "published", self.sweeps))
        self.sweeps += 1
        self.pixels.data.clamp_(0, 1)
        for k in range(len(self.real)):
            rows = torch.randperm(self.real.shape[1])[: self.condense.batch_real].to(self.real.device)
            seed = int(torch.randint(2**31, ()))
            views = self._decoded(self.pixels[k])
            normalised = (views - self.mean) / self.std
            with torch.no_grad():
                real = self.network.features(self._augmented(self.real[k][rows], seed))
            synthetic = self.network.features(self._augmented(normalised, seed))
            loss = _mmd(real, synthetic)
            self.optimiser.zero_grad()
            self.network.zero_grad()
            loss.backward()
            self.optimiser.step()
            float(loss)  # the published loop copies every loss to the host

    def _decoded(self, stored: Tensor) -> Tensor:
        factor, side = self.condense.factor, stored.shape[-1]
        tile = -(-side // factor)
        padded = F.pad(stored, (0, tile * factor - side, 0, tile * factor - side), value=0.5)
        tiles = [
            padded[:, :, i * tile : (i + 1) * tile, j * tile : (j + 1) * tile]
            for i in range(factor)
            for j in range(factor)
        ]
        views = F.interpolate(torch.cat(tiles), size=side, mode="bilinear")
        return views[torch.randperm(len(views))[: self.condense.batch_synthetic_max].to(views.device)]

    def _augmented(self, x: Tensor, seed: int) -> Tensor:
        random = torch.Generator().manual_seed(seed)
        u = [float(v) for v in torch.rand(7, generator=random)]
        x = x + (u[0] - 0.5) * self.augment.brightness
        grey = x.mean(1, keepdim=True)
        x = (x - grey) * (u[1] * self.augment.saturation) + grey
        middle = x.mean((1, 2, 3), keepdim=True)
        x = (x - middle) * (u[2] + self.augment.contrast) + middle
        return self._cut_out(self._cropped(x, u[3], u[4]), u[5], u[6])

    def _cropped(self, x: Tensor, up: float, left: float) -> Tensor:
        side = x.shape[-1]
        reach = int(side * self.augment.crop_ratio + 0.5)
        index = torch.arange(side, device=x.device)
        rows = (index + int(up * (2 * reach + 1)) - reach + 1).clamp(0, side + 1)
        columns = (index + int(left * (2 * reach + 1)) - reach + 1).clamp(0, side + 1)
        images, y, z = torch.meshgrid(torch.arange(len(x), device=x.device), rows, columns, indexing="ij")
        padded = F.pad(x, (1, 1, 1, 1))
        return padded.permute(0, 2, 3, 1).contiguous()[images, y, z].permute(0, 3, 1, 2).contiguous()

    def _cut_out(self, x: Tensor, up: float, left: float) -> Tensor:
        side = x.shape[-1]
        size = int(side * self.augment.cutout_ratio + 0.5)
        index = torch.arange(size, device=x.device)
        rows = (index + int(up * (side + 1)) - size // 2).clamp(0, side - 1)
        columns = (index + int(left * (side + 1)) - size // 2).clamp(0, side - 1)
        images, y, z = torch.meshgrid(torch.arange(len(x), device=x.device), rows, columns, indexing="ij")
        mask = torch.ones(len(x), side, side, device=x.device)
        mask[images, y, z] = 0
        return x * mask[:, None]


def _mmd(x: Tensor, y: Tensor) -> Tensor:
    both = torch.cat([x, y])
    distances = ((both[:, None] - both[None]) ** 2).sum(2) if len(both) < 64 else _expanded(both)
    bandwidth = distances.detach().sum() / (len(both) ** 2 - len(both))
    kernel = sum(torch.exp(-distances / (bandwidth * 2.0 ** (i - 2))) for i in range(5))
    assert isinstance(kernel, Tensor)
    n = len(x)
    return kernel[:n, :n].mean() + kernel[n:, n:].mean() - 2 * kernel[:n, n:].mean()


def _expanded(z: Tensor) -> Tensor:
    # The published [n, n, D] difference needs gigabytes here. This way is faster, to the published loop's advantage.
    squared = z.square().sum(1)
    return (squared[:, None] + squared[None] - 2 * z @ z.T).clamp_min(0)
