"""Which files and contents count as images: the formats of pictures that are read, as far as the installed Pillow has them.

Documents, vector graphics, films and scientific data, which Pillow opens as well, are no photos and are never tried.
"""

from functools import cache

from PIL import Image

FORMATS = (
    *("AVIF", "BMP", "DDS", "DIB", "GIF", "ICNS", "ICO", "IM", "JPEG", "JPEG2000", "MPO", "MSP", "PCX", "PNG", "PPM"),
    *("QOI", "SGI", "SUN", "TGA", "TIFF", "WEBP", "XBM", "XPM"),
)
"""Names of the formats in Pillow, in alphabetical order."""
_OPENED_AS = {"MPO": "JPEG"}
"""Formats that Pillow recognises only while it opens another one."""


@cache
def readable_formats() -> tuple[str, ...]:
    """Returns the formats that the installed Pillow opens, as ``formats`` of ``PIL.Image.open``."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


@cache
def image_endings() -> tuple[str, ...]:
    """Returns the endings of the files that count as images, in lower case and with their dots, sorted."""
    readable = set(readable_formats())
    endings = Image.registered_extensions().items()
    return tuple(sorted(ending for ending, name in endings if _OPENED_AS.get(name, name) in readable))
