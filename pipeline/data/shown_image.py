"""Turns an opened image into 8-bit grey or RGB as a viewer shows it: upright, on white, with its full range of grey.

Values of more than 8 bits are scaled by a fixed rule, the same for every image, and never clipped:

- 16 bits (and the 12 bits of TIFF): the 8 highest bits.
- Floats: from 0 to 1, times 255. An image with other values is refused.
- Signed and 32-bit integers: refused, since nothing says which value is white.

ICC profiles are not applied.
"""

import contextlib
from typing import Literal

import numpy as np
from PIL import Image

WIDE_FORMATS = ("PNG", "PPM")
"""Formats whose images of mode I are known to have 16 bits: Pillow's own choice of mode."""
BITS_PER_SAMPLE, PHOTOMETRIC, SAMPLE_FORMAT, ORIENTATION = 258, 262, 339, 274
"""Tags of TIFF and EXIF."""
SIGNED = 2
"""Value of SAMPLE_FORMAT."""
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What turns an image upright, by the EXIF orientation."""
KEY_SCALE = {"L;2": 85, "L;4": 17}
"""Factor from a transparent grey value, as PNG stores it, to the pixel that Pillow decodes from so few bits."""


class BadImageError(Exception):
    """An image that cannot be decoded; the message says why."""


def shown(image: Image.Image, mode: Literal["L", "RGB"]) -> Image.Image:
    """Returns the image in a mode of 8 bits, upright and on white.

    Args:
        image: an opened image; it is loaded here.
        mode: L for grey, RGB for colour.

    Raises:
        BadImageError: nothing says which values are black and white.
    """
    key = _transparent_key(image)
    image.load()
    orientation = _orientation(image)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        flat = Image.fromarray(_eight_bits(image, key))
    else:
        _refuse_signed(image)
        flat = _on_white(image, key)
    if flat.mode == "LAB":
        flat = flat.convert("RGB")
    flat = flat.convert(mode)
    return flat.transpose(UPRIGHT[orientation]) if orientation in UPRIGHT else flat


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation of a loaded image, or 1. Viewers show images whose EXIF is damaged as they are stored."""
    with contextlib.suppress(Exception):  # Pillow raises a dozen types for damaged EXIF
        return int(image.getexif().get(ORIENTATION, 1))
    return 1


def _eight_bits(image: Image.Image, key: int | tuple[int, ...] | bytes | None) -> np.ndarray:
    """Grey of more than 8 bits, uint8 [H, W]."""
    values = np.asarray(image)
    if image.mode == "F":
        grey = _from_floats(values)
    elif image.mode == "I" and image.format not in WIDE_FORMATS:
        raise _unknown_range()
    else:
        bits = _tag(image, BITS_PER_SAMPLE, 16)
        grey = (values >> (max(bits, 8) - 8)).astype(np.uint8)
    if _tag(image, PHOTOMETRIC, 1) == 0:  # white is 0; Pillow inverts 8 bits only
        grey = 255 - grey
    return grey if key is None else np.where(values == key, np.uint8(255), grey)


def _from_floats(values: np.ndarray) -> np.ndarray:
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= 1):  # also if one of them is NaN
        raise BadImageError(f"its values are floats from {low:g} to {high:g}, needed 0 to 1")
    return np.round(values * 255).astype(np.uint8)


def _refuse_signed(image: Image.Image) -> None:
    if _tag(image, SAMPLE_FORMAT, 1) == SIGNED:
        raise _unknown_range()


def _unknown_range() -> BadImageError:
    return BadImageError(
        "its values are signed or 32-bit integers of unknown range; store them as 8 or 16 bits, unsigned"
    )


def _tag(image: Image.Image, tag: int, default: int) -> int:
    """The first value of a TIFF's tag, or the default for other formats."""
    value = getattr(image, "tag_v2", {}).get(tag, default)
    return value[0] if isinstance(value, tuple) else value


def _transparent_key(image: Image.Image) -> int | tuple[int, ...] | bytes | None:
    """The value of transparent pixels of an opened image that has no alpha channel, as its pixels will have it."""
    key = image.info.get("transparency")
    tiles = getattr(image, "tile", None)
    rawmode = tiles[0][3] if image.format == "PNG" and tiles else None
    if isinstance(key, int) and isinstance(rawmode, str):
        return key * KEY_SCALE.get(rawmode, 1)
    if isinstance(key, tuple) and rawmode == "RGB;16B":
        return tuple(value >> 8 for value in key)
    return key


def _on_white(image: Image.Image, key: int | tuple[int, ...] | bytes | None) -> Image.Image:
    """The image without its alpha channel, transparent colour or transparent entries of its palette."""
    if image.mode in ("La", "RGBa"):
        image = image.convert("LA" if image.mode == "La" else "RGBA")
    if not image.has_transparency_data or image.mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA"):
        return image
    if key is not None:
        image.info["transparency"] = key
    grey = image.mode in ("1", "L", "LA")
    image = image.convert("LA" if grey else "RGBA")
    alpha, colours = image.getchannel("A"), image.convert("L" if grey else "RGB")
    if alpha.getextrema() == (255, 255):
        return colours
    canvas = Image.new(colours.mode, colours.size, "white")
    canvas.paste(colours, mask=alpha)
    return canvas
