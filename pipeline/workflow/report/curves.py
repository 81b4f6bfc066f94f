"""The curves of a run as figures: loss relative to the start, throughput, and the training of networks on all images."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline import storage
from pipeline.errors import UserError
from pipeline.evaluate.rows import EvaluationRow
from pipeline.formats.run_folder import RunFolder
from pipeline.observability.pages import drawable, new_axes, svg
from pipeline.observability.pages.figures import ACCENT, INK, MUTED, WARM, finish
from pipeline.pretrain.reader import read_experts
from pipeline.workflow.report.run_log import Curve, absolute_loss, loss_lines, relative_loss, throughput

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, kw_only=True)
class Plot:
    """A figure with its text."""

    title: str
    svg: str
    text: str


def curves(folder: RunFolder, rows: Sequence[EvaluationRow] = ()) -> list[Plot]:
    """Returns the figures for which there are logs, or rows with accuracies during the training."""
    lines = loss_lines(folder)
    plots = [_loss(relative_loss(lines), absolute_loss(lines)), _accuracy(rows), _throughput(throughput(lines))]
    return [plot for plot in (*plots, *_pretraining(folder)) if plot is not None]


def _accuracy(rows: Sequence[EvaluationRow]) -> Plot | None:
    """The accuracy during the training of the networks, on each set of the first architecture that has curves."""
    best = [(row, row.get("best_epoch_compatibility", {})) for row in rows]
    with_curves = [(row, measured) for row, measured in best if measured.get("curves") and measured.get("every", 0) > 0]
    if not with_curves:
        return None
    first = with_curves[0][0]
    same = [(row, measured) for row, measured in with_curves if _training_of(row) == _training_of(first)]
    axes = new_axes()
    styles = zip((ACCENT, WARM, INK, MUTED, MUTED, MUTED), ("-", "--", "-.", ":", "-", "--"), strict=True)
    for (row, measured), (colour, dashes) in zip(same, styles, strict=False):
        curves = [curve for curve in measured.get("curves", []) if len(curve) == len(measured.get("curves", [[]])[0])]
        epochs = [measured.get("every", 1) * (at + 1) for at in range(len(curves[0]))]
        mean = [sum(values) / len(values) for values in zip(*curves, strict=True)]
        axes.plot(epochs, mean, color=colour, linestyle=dashes, linewidth=1.6, marker=".", label=drawable(row["set"]))
    axes.set(xlabel="epoch", ylabel=f"accuracy on {first['on']} images, %")
    finish(axes)
    names = ", ".join(drawable(row["set"]) for row, _ in same)
    text = (
        f"Mean accuracy of the networks ({drawable(first.get('architecture', ''), 40)}) during their training, on the {first['on']} images. "
        "Results are those after the last epoch."
    )
    return Plot(
        title="Accuracy during the training",
        svg=_svg(axes, f"Accuracy by epoch of networks trained on {names}"),
        text=text,
    )


def _training_of(row: EvaluationRow) -> tuple[object, ...]:
    return tuple(row.get(key) for key in ("architecture", "protocol", "on", "augmentation", "labels"))


def _loss(relative: Curve | None, absolute: Curve | None) -> Plot | None:
    if relative is not None:
        axes = new_axes()
        _draw(axes, relative, label="mean, and range of 90 % of the classes")
        axes.axhline(1, color=MUTED, linewidth=1, linestyle="--")
        axes.set(xlabel="iteration", ylabel="MMD² / MMD² of the start")
        axes.set_ylim(min(0.0, 1.05 * min(relative.low)), max(1.1, 1.05 * max(relative.high)))
        finish(axes)
        alt = f"Loss relative to the starting images: {relative.mean[0]:.2f} at iteration {relative.iterations[0]}, {relative.mean[-1]:.2f} at iteration {relative.iterations[-1]}"
        text = (
            "Loss of the condensed images over that of the starting images, both under the same encoder, real images and "
            "augmentation. 1 is the start; lower is closer to the real images. The encoder is drawn again every few "
            "iterations, so the plain losses of two iterations cannot be compared."
        )
        return Plot(title="Loss relative to the start", svg=_svg(axes, alt), text=text)
    if absolute is None:
        return None
    axes = new_axes()
    _draw(axes, absolute, label="mean, and range of 90 % of the classes")
    axes.set(xlabel="iteration", ylabel="MMD² (squared feature distance)")
    finish(axes)
    alt = f"Loss at iterations {absolute.iterations[0]} to {absolute.iterations[-1]}"
    text = (
        "Loss as it was logged. Each point has another encoder, so a rise does not mean that the images became worse. The log "
        "has too few losses of the starting images to compare with; older versions wrote none."
    )
    return Plot(title="Loss", svg=_svg(axes, alt), text=text)


def _throughput(curve: Curve | None) -> Plot | None:
    if curve is None:
        return None
    axes = new_axes()
    _draw(axes, curve, label="mean, and range of 90 % of the groups")
    axes.set(xlabel="iteration", ylabel="images per second and group")
    axes.set_ylim(0, 1.1 * max(curve.high))
    finish(axes)
    alt = f"Throughput, between {min(curve.low):.0f} and {max(curve.high):.0f} images per second and group"
    text = "Real and synthetic images that the encoder of a group processed per second, since the point before."
    return Plot(title="Throughput", svg=_svg(axes, alt), text=text)


def _pretraining(folder: RunFolder) -> list[Plot]:
    """A figure of the networks trained on all images, if the run has some."""
    plots = []
    for architecture in storage.folders_below(folder.experts):
        with contextlib.suppress(UserError):  # `verify` reports damaged networks
            manifest = read_experts(folder, architecture)
            losses = [record["losses"] for record in manifest["trajectories"]] if manifest else []
            plots += [_training(architecture, losses)] if any(losses) else []
    return plots


def _training(architecture: str, losses: Sequence[Sequence[float]]) -> Plot:
    axes = new_axes()
    for number, values in enumerate(losses):
        axes.plot(range(1, len(values) + 1), values, color=ACCENT, linewidth=1.2, alpha=0.5 if number else 1)
    axes.set(xlabel="epoch", ylabel="training loss (cross-entropy, nats)")
    axes.set_ylim(bottom=0)
    finish(axes)
    name = drawable(architecture)
    count = "1 network" if len(losses) == 1 else f"{len(losses)} networks"
    text = f"{count} {name} that pretrain trained on all training images; a line each."
    alt = f"Training loss of {count} {name} on all training images"
    return Plot(title="Networks on all images", svg=_svg(axes, alt), text=text)


def _svg(axes: "Axes", alt: str) -> str:
    figure = axes.get_figure(root=True)
    assert figure is not None
    return svg(figure, alt)


def _draw(axes: "Axes", curve: Curve, label: str) -> None:
    axes.fill_between(curve.iterations, curve.low, curve.high, color=ACCENT, alpha=0.18, linewidth=0)
    axes.plot(curve.iterations, curve.mean, color=ACCENT, linewidth=1.8, label=label)
