"""Decodes one image to uint8 pixels of the wanted size; the images of every source are resized here."""

import contextlib
import io
from collections.abc import Iterator

import numpy as np
from PIL import Image, UnidentifiedImageError

from pipeline.data.image_formats import readable_formats
from pipeline.data.image_limits import limit_pixels
from pipeline.data.shown_image import BadImageError, shown
from pipeline.errors import first_line

READING = 2
"""Number of the rules by which encoded images become pixels; part of the key of their class shards."""
GREY_MODES = ("1", "L", "LA", "La", "I", "F")
REASON_LENGTH = 200
"""Most characters of a reason."""


def channels_of(content: bytes | np.ndarray) -> int:
    """Returns 1 for a grey image, otherwise 3. Raises BadImageError like ``pixels``."""
    if isinstance(content, np.ndarray):
        return 1 if content.ndim == 2 or content.shape[2] == 1 else 3
    mode = _open(content).mode
    return 1 if mode in GREY_MODES or mode.startswith("I;16") else 3


def size_of(content: bytes | np.ndarray) -> tuple[int, int]:
    """Returns width and height of an image in pixels, as its file says. Raises BadImageError like ``pixels``."""
    return _open(content).size


def pixels(content: bytes | np.ndarray, size: int, channels: int) -> np.ndarray:
    """Returns the image at ``size`` x ``size`` pixels: its shorter side is resized and the centre is cropped.

    An encoded image is read as ``shown`` describes: upright, on white, and with its full range of grey. Resizing is bilinear with antialiasing (Pillow). A JPEG that is much larger than the target is decoded at a reduced
    scale, at least twice the target.

    Args:
        content: encoded image, or uint8 pixels [H, W] or [H, W, C].
        size: side of the result in pixels.
        channels: 1 or 3.

    Returns:
        uint8, shape [channels, size, size].

    Raises:
        BadImageError: the image is corrupt, truncated, of unknown range or in a format that is not read.
    """
    image = _open(content)
    mode = "L" if channels == 1 else "RGB"
    with _bad_image():
        image.draft(mode, (2 * size, 2 * size))
        image = shown(image, mode)
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
    with _bad_image():
        return Image.open(io.BytesIO(content), formats=readable_formats())


@contextlib.contextmanager
def _bad_image() -> Iterator[None]:
    """Turns whatever Pillow and its plugins raise into a BadImageError; only a lack of memory is no fault of the image."""
    try:
        yield
    except (BadImageError, MemoryError):
        raise
    except UnidentifiedImageError:
        # Manifests store the messages of skipped images; other words would be other bytes.
        raise BadImageError("it is no image that Pillow knows") from None
    except Exception as error:
        raise BadImageError(first_line(error)[:REASON_LENGTH]) from None


def _fit(image: Image.Image, size: int) -> Image.Image:
    width, height = image.size
    short = min(width, height)
    wide, high = round(width * size / short), round(height * size / short)
    left, top = (wide - size) // 2, (high - size) // 2
    # Resizing only the crop gives the same pixels as cropping afterwards.
    box = (left * width / wide, top * height / high, (left + size) * width / wide, (top + size) * height / high)
    return image.resize((size, size), Image.Resampling.BILINEAR, box=box)
