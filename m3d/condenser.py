"""The condenser: a stepper with explicit state. It uses no files, clocks or actors.

K  classes    S  stored    M  views    N  real images    D  features
"""

import torch
from torch import Tensor

from m3d.augment import numbers_of
from m3d.backend.execution import Execution, choose
from m3d.backend.precision import convolutions
from m3d.config import ConfigError, Method
from m3d.encoders import check_name
from m3d.formation import cut, tile_sides
from m3d.images.real_images import RealImages
from m3d.kernels import kernel_named
from m3d.passes import block_size, blocks, passes
from m3d.seeding import uniforms
from m3d.shapes import Float, ImageSpec, ShapeError
from m3d.start import starting_images
from m3d.state import Condensed, CondenseState, Outcome, coast, descend


class Condenser:
    """Condenses the classes of one group together: one forward pass, one batched loss, one step for all.

    The losses of different classes do not depend on each other. The gradient of their sum is therefore every class's
    own gradient, and grouping changes nothing but the rounding.
    """

    def __init__(
        self,
        real: RealImages,
        method: Method,
        *,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        class_count: int,
        execution: Execution | None = None,
    ) -> None:
        """Checks that the settings fit each other and the images.

        Args:
            real: images of the group's classes.
            method: settings.
            mean: per channel, for normalisation, in units of [0, 1].
            std: standard deviation per channel.
            class_count: number of classes in the complete run.
            execution: how the step is computed. Defaults to what suits these classes and the device.

        Raises:
            ConfigError: an unknown kernel or encoder, images too small for it or for the factor, a wrong count.
            ShapeError: images that are not square.
        """
        channels, height, width = real.shape
        if height != width:
            raise ShapeError("images", real.shape, "[channels, side, side]: crop them to squares first")
        if max(real.ids) >= class_count:
            raise ConfigError(f"given {class_count}, but there is a class with id {max(real.ids)}", field="class_count")
        if not len(mean) == len(std) == channels:
            raise ConfigError(f"mean, std: given {len(mean)} and {len(std)} numbers for {channels} channels")
        kernel_named(method.kernel.name)
        check_name(method.encoder.name, "encoder.name")
        tile_sides(height, method.condense.factor)
        self.real, self.method, self.condense = real, method, method.condense
        self.mean, self.std, self.class_count = tuple(mean), tuple(std), class_count
        self.execution = execution or choose(method, shape=real.shape, classes=len(real.ids), device=real.device)
        images = ImageSpec(shape=real.shape, mean=self.mean, std=self.std)
        self._passes = passes(method, images, self.execution, real.device)
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
            state: consumed; its tensors are changed in place and become those of the next state.
            with_loss: whether to compute the real-by-real term as well, which only the value needs.

        Returns:
            The next state, and the loss of every class on its device, shape [K], or None without ``with_loss``.
        """
        config, pixels, momentum = self.condense, state.pixels_KSCHW, state.momentum_KSCHW
        rate, reference = config.step_size, config.pixel_step == "reference"
        pixels.clamp_(0, 1)
        if reference:
            coast(pixels, momentum, self._before_K, rate, config.momentum)
        loss_K, gradient = self.gradient(pixels, state.iteration, real_term=with_loss)
        descend(pixels, momentum, gradient, rate, config.momentum)
        # The clamp of the next sweep would hide an infinite gradient, so the momentum is checked as well.
        newly_broken = (state.broken_K < 0) & ~(loss_K.isfinite() & momentum.flatten(1).isfinite().all(1))
        if reference:
            coast(pixels, momentum, self._after_K, rate, config.momentum)
        broken_K = torch.where(newly_broken, state.iteration, state.broken_K)
        after = CondenseState(
            pixels_KSCHW=pixels, momentum_KSCHW=momentum, iteration=state.iteration + 1, broken_K=broken_K
        )
        return after, loss_K if with_loss else None

    def gradient(self, pixels_KSCHW: Tensor, iteration: int, *, real_term: bool = False) -> tuple[Tensor, Tensor]:
        """Loss per class [K] and its gradient by the pixels [K, S, C, H, W] for one iteration's draws."""
        self._passes.draw_weights(self.real.seed, iteration // self.condense.iterations_per_model)
        numbers_KP = numbers_of(self.real.seed, self.real.ids_K, iteration)
        with convolutions(self.execution.precision, self.real.device):
            real_KND = self._real_features(iteration, numbers_KP)
            leaf = pixels_KSCHW.detach().requires_grad_(True)
            with torch.enable_grad():
                tiles_KMChw = self._tiles(leaf, iteration)
            loss_K, slope = self._slope(tiles_KMChw.detach(), real_KND, numbers_KP, real_term)
            (gradient,) = torch.autograd.grad(tiles_KMChw, leaf, slope)
        return loss_K, gradient

    def loss(self, pixels_KSCHW: Float[Tensor, "K S C H W"], iteration: int) -> Float[Tensor, " K"]:
        """Loss per class of any pixels under one iteration's draws: its encoder, real images and augmentation.

        Every few iterations another encoder is drawn, so the losses of different iterations do not compare. Those of
        different pixels at one iteration do.

        Args:
            pixels_KSCHW: stored images in [0, 1], on the device.
            iteration: number of the iteration, from 0.
        """
        self._passes.draw_weights(self.real.seed, iteration // self.condense.iterations_per_model)
        numbers_KP = numbers_of(self.real.seed, self.real.ids_K, iteration)
        with convolutions(self.execution.precision, self.real.device):
            real_KND = self._real_features(iteration, numbers_KP)
            tiles_KMChw = self._tiles(pixels_KSCHW.detach(), iteration)
            return self._slope(tiles_KMChw, real_KND, numbers_KP, True)[0]

    def warm_up(self, state: CondenseState) -> None:
        """Computes one gradient and discards it, so that compilation happens before the first iteration."""
        self.gradient(state.pixels_KSCHW.clamp(0, 1), state.iteration)

    def _real_features(self, iteration: int, numbers_KP: Tensor) -> Tensor:
        count = self.condense.batch_real
        rows = self.real.rows(iteration, count)
        features = self._passes.real(self.real.pixels_TCHW, rows, numbers_KP.repeat_interleave(count, 0))
        return features.view(len(self.real.ids), count, -1)

    def _tiles(self, pixels_KSCHW: Tensor, iteration: int) -> Tensor:
        """Tiles of this iteration's views, before up-sampling, [K, M, C, h, w]."""
        tiles = cut(pixels_KSCHW, self.condense.factor)
        total, limit = tiles.shape[1], self.condense.batch_synthetic_max
        if total <= limit:
            return tiles
        chances = uniforms(self.real.seed, "views", self.real.ids_K, iteration, total)
        chosen = chances.argsort(dim=1, stable=True)[:, :limit]
        return tiles[torch.arange(tiles.shape[0], device=tiles.device)[:, None], chosen]

    def _slope(
        self, tiles_KMChw: Tensor, real_KND: Tensor, numbers_KP: Tensor, real_term: bool
    ) -> tuple[Tensor, Tensor]:
        """Loss per class and its gradient by the tiles, for as many classes at a time as fit in one block.

        The activations of a few classes fit in a CPU's caches and in a GPU's memory.
        """
        classes, views = tiles_KMChw.shape[:2]
        chunk = block_size(classes, max(1, self.execution.synthetic_block // views))
        parts = [
            self._chunk_slope(tiles, real, numbers, real_term)
            for tiles, real, numbers in zip(
                tiles_KMChw.split(chunk), real_KND.split(chunk), numbers_KP.split(chunk), strict=True
            )
        ]
        losses, slopes = zip(*parts, strict=True)
        return torch.cat(losses), torch.cat(slopes)

    def _chunk_slope(
        self, tiles_KMChw: Tensor, real_KND: Tensor, numbers_KP: Tensor, real_term: bool
    ) -> tuple[Tensor, Tensor]:
        classes, views = tiles_KMChw.shape[:2]
        flat, numbers = tiles_KMChw.flatten(0, 1), numbers_KP.repeat_interleave(views, 0)
        if len(flat) <= self.execution.synthetic_block:
            with torch.enable_grad():
                leaf = flat.requires_grad_(True)
                features = self._passes.views(leaf, numbers)
                loss_K = self._passes.loss(features.view(classes, views, -1), real_KND, real_term=real_term)
                (slope,) = torch.autograd.grad(loss_K.sum(), leaf)
            return loss_K.detach(), slope.clone().view_as(tiles_KMChw)
        # One class is larger than a block: compute all features first, then every block again with its slope. The graph
        # of the last block is kept from the first pass. Slopes are copied, since a CUDA graph reuses its output memory.
        *cuts, last = [(part, numbers[where], where) for part, where in blocks(flat, self.execution.synthetic_block)]
        with torch.no_grad():
            features = [self._passes.views(part, random) for part, random, _ in cuts]
        with torch.enable_grad():
            kept = last[0].detach().requires_grad_(True)
            kept_features = self._passes.views(kept, last[1])
            leaf = torch.cat([*features, kept_features.detach()]).requires_grad_(True)
            loss_K = self._passes.loss(leaf.view(classes, views, -1), real_KND, real_term=real_term)
            (feature_slope,) = torch.autograd.grad(loss_K.sum(), leaf)
            feature_slope = feature_slope.clone()
            (kept_slope,) = torch.autograd.grad(kept_features, kept, feature_slope[last[2]])
            kept_slope = kept_slope.clone()
            slopes = []
            for part, random, where in cuts:
                part = part.detach().requires_grad_(True)
                (slope,) = torch.autograd.grad(self._passes.views(part, random), part, feature_slope[where])
                slopes.append(slope.clone())
        return loss_K.detach(), torch.cat([*slopes, kept_slope]).view_as(tiles_KMChw)

    def finished(self, state: CondenseState) -> Outcome | None:
        """Why the condensation is over, or None. It reads from the device, so call it at log intervals only."""
        if bool((state.broken_K >= 0).any()):
            return Outcome.NOT_FINITE
        return Outcome.FINISHED if state.iteration >= self.condense.iterations else None

    def result(self, state: CondenseState) -> Condensed:
        """The condensed set of a state, on the CPU."""
        return Condensed(
            images_KSCHW=state.pixels_KSCHW.detach().clamp(0, 1).cpu(),
            class_ids=self.real.ids,
            factor=self.condense.factor,
            mean=self.mean,
            std=self.std,
        )
