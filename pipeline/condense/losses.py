"""What a worker measures at log iterations: losses, those of the starting images beside them, and images per second."""

import math
import time

from m3d import Condenser, CondenseState
from m3d.loop import Step
from pipeline.condense.events import LossSample

REFERENCES = 50
"""About the number of log iterations at which the starting images are measured as well; each costs as much as an iteration."""


class StartLoss:
    """Measures the starting images under the draws of a log iteration.

    A loss depends on the encoder, which is drawn again every few iterations. The ratio of a loss to that of the starting
    images under the same encoder, real images and augmentation says how far the images have come.
    """

    def __init__(self, condenser: Condenser, start: CondenseState) -> None:
        """Args: the condenser of a group, and its initial state, which is copied to the memory of the host."""
        self._condenser, schedule = condenser, condenser.condense
        self._start_KSCHW = start.pixels_KSCHW.detach().clamp(0, 1).to("cpu", copy=True)
        self._stride = max(1, schedule.iterations // schedule.log_every // REFERENCES) * schedule.log_every

    def after(self, iteration: int) -> tuple[float, ...]:
        """Loss of every class's starting images under the draws of an iteration, counted from 1; empty if none is due.

        Which iterations are due does not depend on where a run was resumed.
        """
        if iteration % self._stride and iteration not in (1, self._condenser.condense.iterations):
            return ()
        device = self._condenser.real.device
        losses = tuple(self._condenser.loss(self._start_KSCHW.to(device), iteration - 1).tolist())
        return losses if all(map(math.isfinite, losses)) else ()


class Meter:
    """Collects losses and measures the images per second between two log iterations."""

    def __init__(self, condenser: Condenser, iteration: int) -> None:
        """Args: the condenser of a group, and the iteration that it starts from."""
        settings = condenser.condense
        self._images = len(condenser.real.ids) * (settings.batch_real + settings.views)
        self._iteration, self._logged = iteration, time.monotonic()
        self._samples: list[LossSample] = []

    def record(self, step: Step, reference: StartLoss) -> None:
        """Adds a sample if the step has losses. The time that the reference takes does not count."""
        if step.losses is None:
            return
        now, iteration = time.monotonic(), step.state.iteration
        rate = (iteration - self._iteration) * self._images / max(1e-9, now - self._logged)
        start = reference.after(iteration)
        self._samples.append(
            LossSample(iteration=iteration, losses=step.losses, start_losses=start, images_per_s=round(rate, 1))
        )
        self._iteration, self._logged = iteration, time.monotonic()

    def take(self) -> tuple[LossSample, ...]:
        """The samples since the last call."""
        samples, self._samples = tuple(self._samples), []
        return samples
