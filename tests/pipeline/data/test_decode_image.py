"""One image to pixels: exact where nothing is resized, near an independent computation where something is."""

import contextlib
import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.data.decode_image import BadImageError, channels_of, pixels
from pipeline.data.image_limits import MOST_PIXELS, limit_pixels
from tests.pipeline.support.images import encoded, picture, smooth


def chw(image: np.ndarray) -> np.ndarray:
    """[H, W] or [H, W, C] to [C, H, W]."""
    return image[None] if image.ndim == 2 else image.transpose(2, 0, 1)


def area_mean(image: np.ndarray, size: int) -> np.ndarray:
    """[C, size, size] of a square image by averaging whole blocks."""
    block = image.shape[0] // size
    return chw(image).reshape(image.shape[2], size, block, size, block).mean((2, 4))


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM"])
@pytest.mark.parametrize("channels", [1, 3])
def test_exact_pixels(kind: str, channels: int) -> None:
    image = picture(1, 10, 10, channels)
    result = pixels(encoded(image, kind), 10, channels)
    assert result.dtype == np.uint8
    assert result.flags.c_contiguous
    np.testing.assert_array_equal(result, chw(image))


@pytest.mark.parametrize("shape", [(7, 7), (7, 7, 1), (7, 7, 3)])
def test_pixels_that_are_decoded_already(shape: tuple[int, ...]) -> None:
    image = picture(2, 7, 7, 1 if len(shape) == 2 else shape[2]).reshape(shape)
    channels = 3 if shape[-1] == 3 and len(shape) == 3 else 1
    assert channels_of(image) == channels
    np.testing.assert_array_equal(pixels(image, 7, channels), chw(image))


@pytest.mark.parametrize(("size", "target"), [(256, 16), (512, 32), (300, 30)])
def test_jpeg_at_a_reduced_scale_is_near_a_full_decode(size: int, target: int) -> None:
    content = encoded(smooth(size, size), "JPEG", quality=95)
    full = encoded(Image.open(io.BytesIO(content)).convert("RGB"))
    difference = np.abs(pixels(content, target, 3).astype(int) - pixels(full, target, 3))
    assert difference.max() <= 4
    assert difference.mean() < 1.5


def test_downsizing_averages() -> None:
    image = picture(3, 64, 64)
    expected = np.asarray(Image.fromarray(image).resize((16, 16), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(pixels(encoded(image), 16, 3), chw(expected))
    waves = smooth(64, 64)
    difference = np.abs(pixels(encoded(waves), 16, 3) - area_mean(waves, 16))
    assert difference[:, 1:-1, 1:-1].max() < 6


def modes() -> dict[str, tuple[Image.Image, int]]:
    """Images of every mode, and the channels that they have."""
    colour = Image.fromarray(smooth(9, 9))
    grey = colour.convert("L")
    transparent = colour.copy()
    transparent.putalpha(grey)
    return {
        "1": (grey.convert("1"), 1),
        "L": (grey, 1),
        "LA": (transparent.convert("LA"), 1),
        "RGB": (colour, 3),
        "RGBA": (transparent, 3),
        "P": (colour.quantize(16), 3),
        "CMYK": (colour.convert("CMYK"), 3),
    }


@pytest.mark.parametrize("mode", modes())
@pytest.mark.parametrize("channels", [1, 3])
def test_modes(mode: str, channels: int) -> None:
    image, own = modes()[mode]
    content = encoded(image, "TIFF" if mode == "CMYK" else "PNG")
    assert channels_of(content) == own
    on_white = Image.new("RGBA", image.size, "white")
    on_white.alpha_composite(image.convert("RGBA"))
    flat = on_white if mode.endswith("A") else image
    expected = chw(np.asarray(flat.convert("L" if channels == 1 else "RGB")))
    np.testing.assert_array_equal(pixels(content, 9, channels), expected)


def test_palette_with_transparency_warns_nobody() -> None:
    content = encoded(Image.fromarray(smooth(9, 9)).quantize(8), transparency=bytes([0, 10, 200, 255]))
    assert pixels(content, 9, 3).shape == (3, 9, 9)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "TIFF big-endian"])
@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_keep_their_range(kind: str, channels: int) -> None:
    ramp = np.linspace(0, 65535, 256).reshape(16, 16).astype(">u2" if "big" in kind else "<u2")
    content = encoded(ramp, kind.split()[0])
    assert channels_of(content) == 1
    result = pixels(content, 16, channels)
    assert np.abs(result.astype(int) - (ramp.astype(int) >> 8)).max() <= 1


@pytest.mark.parametrize(("height", "width"), [(24, 40), (40, 24), (25, 8), (8, 25), (12, 13), (300, 10), (10, 300)])
@pytest.mark.parametrize("size", [8, 9])
def test_the_shorter_side_is_resized_and_the_middle_kept(height: int, width: int, size: int) -> None:
    image = smooth(height, width)
    short = min(height, width)
    wide, high = round(width * size / short), round(height * size / short)
    whole = np.asarray(Image.fromarray(image).resize((wide, high), Image.Resampling.BILINEAR))
    top, left = (high - size) // 2, (wide - size) // 2
    expected = chw(whole[top : top + size, left : left + size])
    result = pixels(encoded(image), size, 3)
    assert result.shape == (3, size, size)
    assert np.abs(result.astype(int) - expected).max() <= 1


def test_the_sides_of_a_wide_image_are_cut() -> None:
    image = np.zeros((10, 30, 3), np.uint8)
    image[:, 10:20] = 255
    assert (pixels(encoded(image), 10, 3) == 255).all()
    assert (pixels(encoded(image.transpose(1, 0, 2)), 10, 3) == 255).all()


def test_a_small_image_is_enlarged() -> None:
    result = pixels(encoded(np.full((3, 5, 3), 77, np.uint8)), 32, 3)
    np.testing.assert_array_equal(result, np.full((3, 32, 32), 77))


@pytest.mark.filterwarnings("ignore:Truncated File Read:UserWarning")
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM"])
@pytest.mark.parametrize("part", [0.02, 0.5, 0.9])
def test_truncated(kind: str, part: float) -> None:
    content = encoded(picture(4, 40, 40), kind)
    with pytest.raises(BadImageError, match=r"."):
        pixels(content[: int(len(content) * part)], 16, 3)


@pytest.mark.parametrize(
    ("content", "why"),
    [(b"", "empty"), (b"not an image", "Pillow"), (b"\x89PNG\r\n\x1a\n", "."), (b"\xff\xd8\xff", ".")],
)
def test_what_is_no_image(content: bytes, why: str) -> None:
    with pytest.raises(BadImageError, match=why):
        pixels(content, 16, 3)
    with pytest.raises(BadImageError, match=why):
        channels_of(content)


WHOLE = {kind: encoded(smooth(12, 12), kind) for kind in ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM")}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", WHOLE)
@given(data=st.data())
def test_any_damage_is_a_bad_image_or_pixels(kind: str, data: st.DataObject) -> None:
    content = bytearray(WHOLE[kind])
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(BadImageError):
        assert pixels(bytes(content), 8, 3).shape == (3, 8, 8)


def claiming(width: int, height: int) -> bytes:
    """A grey PNG of a few bytes that claims any size."""
    content = bytearray(encoded(picture(3, 16, 16, 1)))
    content[16:24] = struct.pack(">II", width, height)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    return bytes(content)


@pytest.mark.parametrize(("width", "height"), [(MOST_PIXELS + 1, 1), (60_000, 60_000), (12_000, 10_001)])
def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded(width: int, height: int) -> None:
    tracemalloc.start()
    with pytest.raises(BadImageError, match=f"{width * height} pixels"):
        pixels(claiming(width, height), 16, 1)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_a_large_image_is_no_warning(recwarn: pytest.WarningsRecorder) -> None:
    limit_pixels.cache_clear()  # pytest has its own filters of warnings in every test
    assert channels_of(claiming(10_000, 10_000)) == 1
    assert not list(recwarn)


def test_an_image_inside_of_another_counts_too() -> None:
    inner = claiming(60_000, 60_000)
    icon = struct.pack("<HHH", 0, 1, 1) + struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 32, len(inner), 22) + inner
    with pytest.raises(BadImageError, match=r"."):
        pixels(icon, 16, 1)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_a_moving_image_the_first_frame_is_decoded(kind: str) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "green", "blue")]
    buffer = io.BytesIO()
    options = {"lossless": True} if kind == "WEBP" else {}
    frames[0].save(buffer, kind, save_all=True, append_images=frames[1:], **options)
    assert pixels(buffer.getvalue(), 16, 3).mean((1, 2)).tolist() == [255, 0, 0]
