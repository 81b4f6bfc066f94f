"""The largest image that is decoded: a file of a few kilobytes may claim any number of pixels."""

import warnings
from functools import lru_cache

from PIL import Image

MOST_PIXELS = 120_000_000
"""Most pixels of an image: 0.36 GB as RGB. Cameras make up to 102 million."""


@lru_cache(maxsize=1)
def limit_pixels() -> None:
    """Makes Pillow refuse larger images of this process with DecompressionBombError, also those inside of another."""
    Image.MAX_IMAGE_PIXELS = MOST_PIXELS // 2  # Pillow warns beyond it, and refuses beyond twice as many
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
