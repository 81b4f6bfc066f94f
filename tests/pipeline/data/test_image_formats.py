"""Formats that count as images: pictures of the installed Pillow, no documents, films or scientific data."""

import pytest
from PIL import Image

from pipeline.data.image_formats import image_endings, readable_formats


def test_formats_are_those_that_pillow_opens() -> None:
    assert set(readable_formats()) <= set(Image.OPEN)
    assert {"JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM"} <= set(readable_formats())


@pytest.mark.parametrize("ending", [".jpg", ".jpeg", ".jfif", ".jpe", ".mpo", ".png", ".apng", ".tif", ".pgm", ".webp"])
def test_endings_of_pictures(ending: str) -> None:
    assert ending in image_endings()


@pytest.mark.parametrize(
    "ending", [".pdf", ".eps", ".ps", ".wmf", ".psd", ".mpg", ".fli", ".h5", ".fits", ".grib", ".heic"]
)
def test_endings_of_other_files(ending: str) -> None:
    assert ending not in image_endings()
