"""PNG of images in [0, 1]: eight bits for a pixel, so its value is rounded by up to half of 1/255."""

import io

import numpy as np
from PIL import Image
from torch import Tensor


def eight_bit(images: Tensor) -> np.ndarray:
    """Returns images in [0, 1] as uint8 of the same shape, rounded to the nearest of the 256 values."""
    return (images.detach().cpu().clamp(0, 1) * 255).round().byte().numpy()


def png(image_CHW: np.ndarray) -> bytes:
    """Returns a uint8 image with one or three channels as a PNG file."""
    array = image_CHW[0] if len(image_CHW) == 1 else np.ascontiguousarray(image_CHW.transpose(1, 2, 0))
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()
