"""The loop: steps a condenser and yields its progress, so that the caller can log, save or stop."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from m3d.condenser import Condenser
from m3d.config import Augment, Condense, ConfigError, Encoder, Kernel, Method
from m3d.images.class_images import ClassImages
from m3d.state import Condensed, CondenseState, Outcome


class NotFiniteError(ArithmeticError):
    """The loss of a class is not finite any more. The message names the class, the iteration and what to try."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """The progress that the loop yields after an iteration."""

    state: CondenseState
    """State after the iteration. The next step changes its tensors: keep ``condenser.result(state)`` or clones."""
    losses: tuple[float, ...] | None
    """Loss per class at log iterations, otherwise None."""
    outcome: Outcome | None
    """FINISHED at the last step, otherwise None."""


def iterate(condenser: Condenser, state: CondenseState | None = None) -> Iterator[Step]:
    """Runs all iterations; the consumer may stop after any of them.

    Losses are read at log iterations: the first, every ``log_every``, and the last one.

    Args:
        condenser: the condenser to step.
        state: where to resume. Defaults to the initial state. A finished state yields nothing.

    Yields:
        One ``Step`` per iteration.

    Raises:
        NotFiniteError: a loss is not finite; raised at the next log iteration.
    """
    state = condenser.init() if state is None else state
    config = condenser.condense
    while state.iteration < config.iterations:
        number = state.iteration + 1
        log = number % config.log_every == 0 or number in (1, config.iterations)
        state, losses = condenser.step(state, with_loss=log)
        outcome = condenser.finished(state) if log else None
        if outcome is Outcome.NOT_FINITE:
            raise NotFiniteError(_not_finite(condenser, state))
        yield Step(state=state, losses=tuple(losses.tolist()) if losses is not None else None, outcome=outcome)


def condense(
    images: Tensor,
    labels: Tensor,
    *,
    kernel: Kernel | None = None,
    augment: Augment | None = None,
    encoder: Encoder | None = None,
    seed: int = 0,
    device: torch.device | str | None = None,
    **settings: object,
) -> Condensed:
    """The condensed set of some images: all classes as one group, without files, actors or Ray.

    Args:
        images: uint8, shape [n, C, H, W], square.
        labels: integers 0 to classes - 1, shape [n].
        kernel: settings of the loss. Defaults to the paper's.
        augment: settings of the augmentation. Defaults to the paper's.
        encoder: settings of the network. Defaults to the paper's.
        seed: of all random draws.
        device: where to compute. Defaults to the GPU if there is one, else the CPU.
        settings: fields of ``Condense``, such as ``images_per_class=1, iterations=300``.

    Returns:
        The condensed set; train networks on its ``views()``.

    Raises:
        ConfigError: labels that do not match the images, or a setting out of range.
        ShapeError: images that are not square.
        NotFiniteError: a loss is not finite.
    """
    if images.ndim != 4 or images.dtype != torch.uint8:
        raise ConfigError(
            f"images: given {images.dtype} of shape {list(images.shape)}, needed torch.uint8 [n, C, H, W]"
        )
    labels = labels.to(images.device)
    if labels.shape != images.shape[:1] or labels.is_floating_point() or not len(labels) or int(labels.min()) < 0:
        raise ConfigError(
            f"labels: given {labels.dtype} of shape {list(labels.shape)}, needed {len(images)} integers from 0 up"
        )
    classes = int(labels.max()) + 1
    present, counts = labels.unique(return_counts=True)
    if len(present) < classes:
        missing = next(label for label, other in enumerate(present.tolist()) if label != other)
        raise ConfigError(
            f"labels: none of the images has label {missing}; labels must be 0 to {classes - 1} without a gap"
        )
    # Sorted once: a look at all labels for every class would grow with the square of the classes.
    groups = images[labels.argsort(stable=True)].split(counts.tolist())
    method = Method(
        kernel=kernel or Kernel(),
        augment=augment or Augment(),
        encoder=encoder or Encoder(),
        condense=Condense(**settings),  # pyright: ignore[reportArgumentType]
    )
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    mean, std = moments(images)
    condenser = Condenser(
        ClassImages(groups, range(classes), seed=seed, device=place),
        method,
        mean=mean,
        std=std,
        class_count=classes,
    )
    state = condenser.init()
    for step in iterate(condenser, state):
        state = step.state
    return condenser.result(state)


def moments(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel of uint8 images [n, C, H, W], in units of [0, 1].

    Returns:
        (means, standard deviations), one number per channel each; a standard deviation is at least 1 / 255.
    """
    # Computed from the counts of the 256 values: exact, and without a copy of the images in floating point.
    levels = torch.arange(256, dtype=torch.float64) / 255
    counts = [torch.bincount(channel.flatten(), minlength=256).cpu().double() for channel in images.unbind(1)]
    means = [float((count * levels).sum() / count.sum()) for count in counts]
    spread = [
        float((count * (levels - mean).square()).sum() / count.sum()) for count, mean in zip(counts, means, strict=True)
    ]
    return tuple(means), tuple(max(value**0.5, 1 / 255) for value in spread)


def _not_finite(condenser: Condenser, state: CondenseState) -> str:
    broken = {i: int(b) for i, b in zip(condenser.real.ids, state.broken_K.tolist(), strict=True) if b >= 0}
    class_id, iteration = min(broken.items(), key=lambda item: item[1])
    rate, kernel = condenser.condense.step_size, condenser.method.kernel
    return (
        f"the loss of class {class_id} is not finite at iteration {iteration} (condense.learning_rate={rate:g}, "
        f"kernel.name={kernel.name}, kernel.bandwidth_multiplier={kernel.bandwidth_multiplier:g}, "
        f"precision {condenser.execution.precision}): try a smaller learning rate, a larger bandwidth multiplier, "
        "kernel.name=gaussian or condense.precision=float32"
    )
