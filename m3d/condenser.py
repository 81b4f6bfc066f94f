"""The condenser: a stepper with explicit state. It knows no files, clocks or actors.

K  classes    S  stored    M  views    N  real images    D  features
"""

import torch
from torch import Tensor

from m3d import augment as augmentation
from m3d.class_images import ClassImages
from m3d.config import Augment, Condense, ConfigError, Encoder, Kernel
from m3d.encoders import Network, build, initialise
from m3d.encoders.registry import check_name, is_residual
from m3d.formation import decode, tile_sides
from m3d.kernels import kernel_named
from m3d.mmd import mmd2
from m3d.precision import convolutions, encoding, resolve
from m3d.seeding import generator, uniforms
from m3d.shapes import Float, ShapeError
from m3d.start import starting_images
from m3d.state import Condensed, CondenseState, Outcome, coast, descend

GPU_BLOCK_PIXELS = 2**24
"""Pixels that a GPU takes at once: 334 images of 224 px, so that one activation stays below 2**31 numbers."""
CPU_BLOCK_PIXELS = 32 * 32 * 32
"""Pixels that a CPU's caches take at once: 32 images of 32 px measured fastest on two cores with 2 MiB each."""


class Condenser:
    """Condenses the classes of one group together: one forward pass, one batched loss, one step for all.

    The losses of different classes do not depend on each other, so the gradient of their sum is every
    class's own gradient; grouping changes nothing but the rounding.
    """

    def __init__(
        self,
        real: ClassImages,
        *,
        condense: Condense,
        kernel: Kernel,
        augment: Augment,
        encoder: Encoder,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        class_count: int,
    ) -> None:
        """Checks that the settings go together with each other and with the images.

        Args:
            real: images of the group's classes.
            condense, kernel, augment, encoder: settings.
            mean, std: per channel, to normalise with, in units of [0, 1].
            class_count: classes of the whole run.

        Raises:
            ConfigError: an unknown kernel or encoder, images too small for it or for the factor, a wrong count.
            ShapeError: images that are not square.
        """
        channels, height, width = real.shape
        if height != width:
            raise ShapeError("images", real.shape, "[channels, side, side]: crop them to squares first")
        if max(real.ids) >= class_count:
            raise ConfigError(f"class_count: given {class_count}, but there is a class with id {max(real.ids)}")
        if not len(mean) == len(std) == channels:
            raise ConfigError(f"mean, std: given {len(mean)} and {len(std)} numbers for {channels} channels")
        kernel_named(kernel.name)
        check_name(encoder.name, "encoder.name")
        tile_sides(height, condense.factor)
        self.real, self.condense, self.kernel, self.augment, self.encoder = real, condense, kernel, augment, encoder
        self.mean, self.std, self.class_count = tuple(mean), tuple(std), class_count
        self.precision = resolve(condense.precision, real.device)
        self._mean_C11 = torch.tensor(self.mean, device=real.device).view(-1, 1, 1)
        self._std_C11 = torch.tensor(self.std, device=real.device).view(-1, 1, 1)
        self._network: Network | None = None
        self._model_index = -1
        self._before_K = real.ids_K  # a class's position in the sweep is its id
        self._after_K = class_count - 1 - real.ids_K

    def init(self) -> CondenseState:
        """The state before the first iteration."""
        pixels = starting_images(self.real, self.condense)
        broken = torch.full((len(self.real.ids),), -1, dtype=torch.int64, device=self.real.device)
        return CondenseState(pixels_KSCHW=pixels, momentum_KSCHW=torch.zeros_like(pixels), iteration=0, broken_K=broken)

    def step(
        self, state: CondenseState, *, with_loss: bool = False
    ) -> tuple[CondenseState, Float[Tensor, " K"] | None]:
        """One sweep over the classes: a batch of real images, the gradient of the MMD, one pixel step.

        Args:
            state: consumed; its tensors are changed in place and handed on.
            with_loss: also compute the real-by-real term, which only the value needs.

        Returns:
            The next state, and with ``with_loss`` the loss of every class on its device, shape [K].
        """
        config, pixels, momentum = self.condense, state.pixels_KSCHW, state.momentum_KSCHW
        rate, reference = config.step_size, config.pixel_step == "reference"
        pixels.clamp_(0, 1)
        if reference:
            coast(pixels, momentum, self._before_K, rate, config.momentum)
        loss_K, gradient = self.gradient(pixels, state.iteration, real_term=with_loss)
        descend(pixels, momentum, gradient, rate, config.momentum)
        # The clamp of the next sweep would hide an infinite gradient, so the momentum is looked at as well.
        newly_broken = (state.broken_K < 0) & ~(loss_K.isfinite() & momentum.flatten(1).isfinite().all(1))
        if reference:
            coast(pixels, momentum, self._after_K, rate, config.momentum)
        broken_K = torch.where(newly_broken, state.iteration, state.broken_K)
        after = CondenseState(
            pixels_KSCHW=pixels, momentum_KSCHW=momentum, iteration=state.iteration + 1, broken_K=broken_K
        )
        return after, loss_K if with_loss else None

    def gradient(self, pixels_KSCHW: Tensor, iteration: int, *, real_term: bool = False) -> tuple[Tensor, Tensor]:
        """Loss per class [K] and its gradient by the pixels [K, S, C, H, W] at one iteration's draws."""
        with convolutions(self.precision, self.real.device):
            return self._gradient(pixels_KSCHW, iteration, real_term)

    def _gradient(self, pixels_KSCHW: Tensor, iteration: int, real_term: bool) -> tuple[Tensor, Tensor]:
        network = self._encoder_at(iteration)
        height, width = self.real.shape[1:]
        drawn = augmentation.draw(self.augment, self.real.seed, self.real.ids_K, iteration, height, width)
        with torch.no_grad():
            real = self.real.batch(iteration, self.condense.batch_real)
            real_KND = self._features(network, real.to(torch.float32) / 255, drawn)
        leaf = pixels_KSCHW.detach().requires_grad_(True)
        with torch.enable_grad():
            syn_KMD = self._features(network, self._views(leaf, iteration), drawn)
            loss_K = mmd2(syn_KMD, real_KND, self.kernel, real_term=real_term)
            (gradient,) = torch.autograd.grad(loss_K.sum(), leaf)
        return loss_K.detach(), gradient

    def finished(self, state: CondenseState) -> Outcome | None:
        """Why to stop here, or None. Reads the device, so it is asked at log intervals only."""
        if bool((state.broken_K >= 0).any()):
            return Outcome.NOT_FINITE
        return Outcome.FINISHED if state.iteration >= self.condense.iterations else None

    def result(self, state: CondenseState) -> Condensed:
        """The condensed set as it stands."""
        return Condensed(
            images_KSCHW=state.pixels_KSCHW.detach().clamp(0, 1).cpu(),
            class_ids=self.real.ids,
            factor=self.condense.factor,
            mean=self.mean,
            std=self.std,
        )

    def _views(self, pixels_KSCHW: Tensor, iteration: int) -> Tensor:
        views = decode(pixels_KSCHW, self.condense.factor)
        total, limit = views.shape[1], self.condense.batch_synthetic_max
        if total <= limit:
            return views
        chances = uniforms(self.real.seed, "views", self.real.ids_K, iteration, total)
        chosen = chances.argsort(dim=1, stable=True)[:, :limit]
        return views[torch.arange(views.shape[0], device=views.device)[:, None], chosen]

    def _features(self, network: Network, images_KBCHW: Tensor, drawn: augmentation.Draw) -> Tensor:
        images = (images_KBCHW - self._mean_C11) / self._std_C11
        flat = augmentation.apply(images, drawn, self.augment).flatten(0, 1)
        with encoding(self.precision, flat.device):
            parts = [network.features(part).float() for part in flat.split(self._block(flat))]
        return torch.cat(parts).view(*images_KBCHW.shape[:2], -1)

    def _block(self, flat: Tensor) -> int:
        if self.condense.block:
            return self.condense.block
        pixels = CPU_BLOCK_PIXELS if flat.device.type == "cpu" else GPU_BLOCK_PIXELS
        return max(1, pixels // (flat.shape[-1] * flat.shape[-2]))

    def _encoder_at(self, iteration: int) -> Network:
        index = iteration // self.condense.iterations_per_model
        if self._network is not None and index == self._model_index:
            return self._network
        weights = generator(self.real.seed, "encoder", index)
        if self._network is None:
            channels, size, _ = self.real.shape
            self._network = build(
                self.encoder.name,
                channels=channels,
                image_size=size,
                classes=1,
                generator=weights,
                width=self.encoder.width,
                device=self.real.device,
            ).requires_grad_(False)
        else:
            initialise(self._network, weights, fan_out=is_residual(self.encoder.name))
        self._model_index = index
        return self._network
