"""Siamese differentiable augmentation: parameters are drawn once and applied to any number of batches.

    K  sets that share their parameters: the classes when matching, single images when training
    B  images of a set

Source: DSA (Zhao and Bilen, 2021) for the operations and their strengths; IDC for "one geometric operation at a time".
Images are normalised first, so pixels that are cut off become the mean colour.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from m3d.config import GEOMETRIC, Augment
from m3d.seeding import uniforms
from m3d.shapes import Float, Int

_SLOTS = (
    "pick",
    "flip",
    "brightness",
    "saturation",
    "contrast",
    "y",
    "x",
    "scale_y",
    "scale_x",
    "angle",
    "cut_y",
    "cut_x",
)


@dataclass(frozen=True, kw_only=True)
class Draw:
    """The parameters of one augmentation, one value per set, shape [K] each. Applying it is deterministic."""

    operations: dict[str, Tensor]
    """Whether each operation is applied: name to bool [K]."""
    brightness: Tensor
    """Number added to the pixels."""
    saturation: Tensor
    """Factor of the distance from the grey value."""
    contrast: Tensor
    """Factor of the distance from the image's mean."""
    shift_y: Tensor
    """Shift down in pixels, an integer."""
    shift_x: Tensor
    """Shift to the right in pixels, an integer."""
    scale_y: Tensor
    scale_x: Tensor
    angle: Tensor
    """Rotation in radians."""
    cut_y: Tensor
    """Row of the centre of the square that is cut out, in pixels."""
    cut_x: Tensor
    """Column of that centre, in pixels."""


def draw(config: Augment, seed: int, class_ids: Int[Tensor, " K"], iteration: int, height: int, width: int) -> Draw:
    """The parameters of every class at one iteration, a function of (seed, class id, iteration) alone."""
    return draw_from(config, numbers_of(seed, class_ids, iteration), height, width)


def numbers_of(seed: int, class_ids: Int[Tensor, " K"], iteration: int) -> Float[Tensor, "K P"]:
    """The random numbers behind ``draw``, one row per class."""
    return uniforms(seed, "augment", class_ids, iteration, len(_SLOTS))


def draw_from(config: Augment, uniforms_KP: Float[Tensor, "K P"], height: int, width: int) -> Draw:
    """Parameters that follow from uniform numbers in [0, 1), one row of ``slots()`` numbers per set.

    Args:
        config: operations and strengths.
        uniforms_KP: the random numbers.
        height: of the images that it will be applied to, in pixels.
        width: of the same images, in pixels.
    """
    u = dict(zip(_SLOTS, uniforms_KP.unbind(1), strict=True))
    pad_y, pad_x = int(height * config.crop_ratio + 0.5), int(width * config.crop_ratio + 0.5)
    low, high = 1 / config.scale_ratio, config.scale_ratio
    side = cutout_side(config, height)
    return Draw(
        operations=_chosen(config, u["pick"], u["flip"]),
        brightness=(u["brightness"] - 0.5) * config.brightness,
        saturation=u["saturation"] * config.saturation,
        contrast=u["contrast"] + config.contrast,
        shift_y=(u["y"] * (2 * pad_y + 1)).floor() - pad_y,
        shift_x=(u["x"] * (2 * pad_x + 1)).floor() - pad_x,
        scale_y=low + u["scale_y"] * (high - low),
        scale_x=low + u["scale_x"] * (high - low),
        angle=(u["angle"] - 0.5) * 2 * math.radians(config.rotate_degrees),
        cut_y=(u["cut_y"] * (height + 1 - side % 2)).floor(),
        cut_x=(u["cut_x"] * (width + 1 - side % 2)).floor(),
    )


def slots() -> int:
    """Number of uniform numbers that one draw uses."""
    return len(_SLOTS)


def cutout_side(config: Augment, height: int) -> int:
    """Side of the square that is cut out, in pixels."""
    return int(height * config.cutout_ratio + 0.5)


def apply(x_KBCHW: Float[Tensor, "K B C H W"], drawn: Draw, config: Augment) -> Float[Tensor, "K B C H W"]:
    """The augmented images: flip, colour, one geometric operation, cutout, each with its set's parameters."""
    x, on = x_KBCHW, drawn.operations
    if "flip" in on:
        x = _where(on["flip"], x.flip(-1), x)
    if "color" in on:
        x = _where(on["color"], _colour(x, drawn), x) if config.pick == "any" else _colour(x, drawn)
    geometric = [name for name in GEOMETRIC if name in on]
    if geometric == ["crop"]:
        shifted = _shift(x, drawn.shift_y, drawn.shift_x)
        x = _where(on["crop"], shifted, x) if config.pick == "any" else shifted
    elif geometric:
        x = _affine(x, drawn)
    if "cutout" in on and cutout_side(config, x.shape[-2]) > 0:
        mask = _cutout_mask(x, drawn, cutout_side(config, x.shape[-2]))
        x = x * (_where(on["cutout"], mask, torch.ones_like(mask)) if config.pick == "any" else mask)
    return x


def _chosen(config: Augment, pick_K: Tensor, flip_K: Tensor) -> dict[str, Tensor]:
    names = config.operations
    chosen = {name: torch.ones_like(pick_K, dtype=torch.bool) for name in names}
    rivals = names if config.pick == "any" else tuple(name for name in names if name in GEOMETRIC)
    if rivals:
        winner = (pick_K * len(rivals)).long().clamp_max(len(rivals) - 1)
        chosen.update({name: winner == i for i, name in enumerate(rivals)})
    if "flip" in chosen:
        chosen["flip"] = chosen["flip"] & (flip_K < config.flip_probability)
    return chosen


def _spread(value_K: Tensor, like: Tensor) -> Tensor:
    return value_K.view(-1, *([1] * (like.ndim - 1)))


def _where(choice_K: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return torch.where(_spread(choice_K, a), a, b)


def _colour(x: Tensor, drawn: Draw) -> Tensor:
    x = x + _spread(drawn.brightness, x).to(x.dtype)
    grey = x.mean(-3, keepdim=True)
    x = grey + (x - grey) * _spread(drawn.saturation, x).to(x.dtype)
    mean = x.mean((-3, -2, -1), keepdim=True)
    return mean + (x - mean) * _spread(drawn.contrast, x).to(x.dtype)


def _shift(x: Tensor, down_K: Tensor, right_K: Tensor) -> Tensor:
    # A product with a 0/1 matrix on either side: static shapes, exact values, and a gradient without scattered writes,
    # at a few hundredths of the encoder's cost.
    rows = _shift_matrix(down_K, x.shape[-2]).to(x.dtype)
    columns = _shift_matrix(right_K, x.shape[-1]).to(x.dtype)
    # One product per set on either side, no copies of the matrices.
    across = torch.bmm(x.flatten(1, 3), columns.mT).view(x.shape)
    turned = across.permute(0, 3, 1, 2, 4).flatten(2)  # rows first, for the second product
    moved = torch.bmm(rows, turned).view(len(x), x.shape[3], *x.shape[1:3], x.shape[4])
    return moved.permute(0, 2, 3, 1, 4)


def _shift_matrix(shift_K: Tensor, size: int) -> Tensor:
    index = torch.arange(size, device=shift_K.device)
    return index[None, :, None] - shift_K[:, None, None] == index[None, None, :]


def _affine(x: Tensor, drawn: Draw) -> Tensor:
    """Crop, scale or rotate, as each set has drawn, by one bilinear resampling with zeros outside."""
    on, (height, width) = drawn.operations, x.shape[-2:]
    one, zero = torch.ones_like(drawn.angle), torch.zeros_like(drawn.angle)
    no = torch.zeros_like(drawn.angle, dtype=torch.bool)
    crop, scale, rotate = (on.get(name, no) for name in GEOMETRIC)
    scale_x, scale_y = torch.where(scale, drawn.scale_x, one), torch.where(scale, drawn.scale_y, one)
    angle = torch.where(rotate, drawn.angle, zero)
    cosine, sine = angle.cos(), angle.sin()
    # The grid contains the source position of every output pixel, in units of half the image.
    from_x = torch.where(crop, -2 * drawn.shift_x / width, zero)
    from_y = torch.where(crop, -2 * drawn.shift_y / height, zero)
    top = torch.stack([scale_x * cosine, -sine, from_x], -1)
    bottom = torch.stack([sine, scale_y * cosine, from_y], -1)
    theta = torch.stack([top, bottom], -2).repeat_interleave(x.shape[1], dim=0).to(x.dtype)
    flat = x.flatten(0, 1)
    with torch.autocast(x.device.type, enabled=False):  # bfloat16 has too few bits for positions
        grid = F.affine_grid(theta, list(flat.shape), align_corners=False)
    return F.grid_sample(flat, grid, padding_mode="zeros", align_corners=False).view_as(x)


def _cutout_mask(x: Tensor, drawn: Draw, side: int) -> Tensor:
    def outside(centre_K: Tensor, size: int) -> Tensor:
        first = centre_K[:, None] - side // 2
        index = torch.arange(size, device=x.device)[None]
        return (index < first) | (index >= first + side)

    rows, columns = outside(drawn.cut_y, x.shape[-2]), outside(drawn.cut_x, x.shape[-1])
    return (rows[:, :, None] | columns[:, None, :]).to(x.dtype)[:, None, None]
