"""Decodes one image to uint8 pixels of the wanted size; the images of every source are resized here."""

import io

import numpy as np
from PIL import Image, UnidentifiedImageError

from pipeline.data.image_limits import limit_pixels

GREY_MODES = ("1", "L", "LA", "La", "I", "F")


class BadImageError(Exception):
    """An image that cannot be decoded; the message says why."""


def channels_of(content: bytes | np.ndarray) -> int:
    """Returns 1 for a grey image, otherwise 3. Raises BadImageError like ``pixels``."""
    if isinstance(content, np.ndarray):
        return 1 if content.ndim == 2 or content.shape[2] == 1 else 3
    mode = _open(content).mode
    return 1 if mode in GREY_MODES or mode.startswith("I;16") else 3


def pixels(content: bytes | np.ndarray, size: int, channels: int) -> np.ndarray:
    """Returns the image at ``size`` x ``size`` pixels: its shorter side is resized and the centre is cropped.

    Resizing is bilinear with antialiasing (Pillow). A JPEG that is much larger than the target is decoded at a reduced
    scale, at least twice the target.

    Args:
        content: encoded image, or uint8 pixels [H, W] or [H, W, C].
        size: side of the result in pixels.
        channels: 1 or 3.

    Returns:
        uint8, shape [channels, size, size].

    Raises:
        BadImageError: the image is corrupt, truncated or in a format that Pillow does not know.
    """
    image = _open(content)
    mode = "L" if channels == 1 else "RGB"
    try:
        image.draft(mode, (2 * size, 2 * size))
        image = _eight_bits(image).convert(mode)
    except MemoryError:
        raise
    except Exception as error:  # plugins raise almost anything
        raise BadImageError(str(error)[:200]) from None
    if image.size != (size, size):
        image = _fit(image, size)
    array = np.asarray(image)
    return array[None] if channels == 1 else np.ascontiguousarray(array.transpose(2, 0, 1))


def _open(content: bytes | np.ndarray) -> Image.Image:
    if isinstance(content, np.ndarray):
        return Image.fromarray(content.squeeze(-1) if content.ndim == 3 and content.shape[2] == 1 else content)
    if not content:
        raise BadImageError("it is empty")
    limit_pixels()
    try:
        return Image.open(io.BytesIO(content))
    except UnidentifiedImageError:
        # Manifests store the messages of skipped images; other words would be other bytes.
        raise BadImageError("it is no image that Pillow knows") from None
    except MemoryError:
        raise
    except Exception as error:  # plugins raise almost anything
        raise BadImageError(str(error)[:200]) from None


def _eight_bits(image: Image.Image) -> Image.Image:
    """The image in a mode that Pillow converts correctly: it would clip 16-bit grey instead of scaling it."""
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode == "P" and "transparency" in image.info:
        return image.convert("RGBA")
    return image


def _fit(image: Image.Image, size: int) -> Image.Image:
    width, height = image.size
    short = min(width, height)
    wide, high = round(width * size / short), round(height * size / short)
    left, top = (wide - size) // 2, (high - size) // 2
    # Resizing only the crop gives the same pixels as cropping afterwards.
    box = (left * width / wide, top * height / high, (left + size) * width / wide, (top + size) * height / high)
    return image.resize((size, size), Image.Resampling.BILINEAR, box=box)
