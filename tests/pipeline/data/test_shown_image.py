"""Images as a viewer shows them: upright, on white, with their full range of grey; what has no known range is refused."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile

from pipeline.data.decode_image import BadImageError, channels_of, pixels
from pipeline.data.shown_image import UPRIGHT
from tests.pipeline.support.images import encoded, picture, smooth

RAMP = np.tile(np.arange(0, 256, 17, dtype=np.uint8), (16, 1))
"""Dark left, bright right."""
STORED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""How a camera stores an upright image with each orientation."""


def turned(image: Image.Image, orientation: int, kind: str, **options: Any) -> bytes:
    """The file of a camera that was held in another way."""
    tags = Image.Exif()
    tags[274] = orientation
    return encoded(image.transpose(STORED[orientation]), kind, exif=tags, **options)


def quarters(height: int, width: int) -> Image.Image:
    """An upright image whose quarters have four colours."""
    image = np.zeros((height, width, 3), np.uint8)
    for i, colour in enumerate(((220, 20, 20), (20, 200, 20), (20, 20, 220), (200, 200, 20))):
        top, left = i // 2 * height // 2, i % 2 * width // 2
        image[top : top + height // 2, left : left + width // 2] = colour
    return Image.fromarray(image)


def tiff(values: np.ndarray, bits: int, *, photometric: int = 1, sample_format: int = 1) -> bytes:
    """An uncompressed little-endian TIFF of one channel, which Pillow itself cannot write in all these forms."""
    data = values.tobytes()
    height, width = values.shape[0], 16
    entries = [
        *((256, 3, width), (257, 3, height), (258, 3, bits), (259, 3, 1), (262, 3, photometric), (273, 4, 134)),
        *((277, 3, 1), (278, 3, height), (279, 4, len(data)), (339, 3, sample_format)),
    ]
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", t, k, 1, v) for t, k, v in entries)
    return (b"II*\0" + struct.pack("<I", 8) + directory + b"\0\0\0\0").ljust(134, b"\0") + data


def grey(content: bytes) -> list[int]:
    """A row of the image in grey, which is that of every channel in colour."""
    result = pixels(content, 16, 1)
    np.testing.assert_array_equal(pixels(content, 16, 3), np.repeat(result, 3, 0))
    return result[0, 0].tolist()


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_orientation(orientation: int, kind: str) -> None:
    upright = quarters(48, 32)
    options = {"JPEG": {"quality": 95}, "WEBP": {"lossless": True}, "AVIF": {"quality": 100}}.get(kind, {})
    result = pixels(turned(upright, orientation, kind, **options), 4, 3)
    expected = pixels(encoded(upright), 4, 3)
    assert np.abs(result.astype(int) - expected).max() <= (0 if kind in ("PNG", "WEBP", "TIFF") else 8)


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("channels", [1, 3])
def test_orientation_of_a_jpeg_at_a_reduced_scale(orientation: int, channels: int) -> None:
    upright = quarters(320, 448)
    result = pixels(turned(upright, orientation, "JPEG", quality=95), 4, channels)
    expected = pixels(encoded(upright), 4, channels)
    assert np.abs(result.astype(int) - expected).max() <= 8


@pytest.mark.parametrize("orientation", [0, 1, 9, 65535])
def test_other_orientations_turn_nothing(orientation: int) -> None:
    tags = Image.Exif()
    tags[274] = orientation
    image = picture(1)
    np.testing.assert_array_equal(pixels(encoded(image, exif=tags), 12, 3), image.transpose(2, 0, 1))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data:UserWarning")
@pytest.mark.parametrize("exif", [b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0nonsense", b"Exif\0\0", b"Exif\0\0MM\0*"])
def test_damaged_exif_turns_nothing(exif: bytes) -> None:
    image = smooth(12, 12)
    expected = pixels(encoded(image, "JPEG"), 12, 3)
    np.testing.assert_array_equal(pixels(encoded(image, "JPEG", exif=exif), 12, 3), expected)


def see_through(mode: str) -> bytes:
    """Noise of which all but a grey square is transparent; the file's form of transparency is that of the mode."""
    noise = picture(5, 16, 16)
    noise[4:12, 4:12] = 128
    alpha = np.zeros((16, 16), np.uint8)
    alpha[4:12, 4:12] = 255
    square = Image.fromarray(np.where(alpha, 128, 17).astype(np.uint8))
    image = Image.fromarray(noise)
    image.putalpha(Image.fromarray(alpha))
    palette = square.convert("P")
    entries = bytes(0 if i == 17 else 255 for i in range(256))
    wide = Image.fromarray(np.asarray(square).astype(np.uint16) * 256)
    dots = Image.fromarray(alpha > 0)
    return {
        "RGBA": lambda: encoded(image),
        "LA": lambda: encoded(image.convert("LA")),
        "RGBA of WebP": lambda: encoded(image, "WEBP", lossless=True, exact=True),
        "RGBA of TIFF": lambda: encoded(image, "TIFF"),
        "PA": lambda: encoded(palette_with_alpha(palette, alpha), "TIFF"),
        "P, alpha": lambda: encoded(palette, transparency=entries),
        "P, index": lambda: encoded(palette, transparency=17),
        "P of GIF": lambda: encoded(palette, "GIF", transparency=17),
        "L, key": lambda: encoded(square, transparency=17),
        "RGB, key": lambda: encoded(square.convert("RGB"), transparency=(17, 17, 17)),
        "I;16, key": lambda: encoded(wide, transparency=17 * 256),
        "1, key": lambda: encoded(dots, transparency=0),
    }[mode]()


def palette_with_alpha(palette: Image.Image, alpha: np.ndarray) -> Image.Image:
    """An image of mode PA."""
    image = palette.convert("PA")
    image.putalpha(Image.fromarray(alpha))
    return image


FORMS = ("RGBA", "LA", "RGBA of WebP", "RGBA of TIFF", "PA", "P, alpha", "P, index", "P of GIF")


@pytest.mark.parametrize("mode", [*FORMS, "L, key", "RGB, key", "I;16, key", "1, key"])
@pytest.mark.parametrize("channels", [1, 3])
def test_transparent_pixels_are_white(mode: str, channels: int) -> None:
    expected = np.full((channels, 16, 16), 255)
    expected[:, 4:12, 4:12] = 255 if mode == "1, key" else 128
    np.testing.assert_array_equal(pixels(see_through(mode), 16, channels), expected)


@pytest.mark.parametrize("bits", [2, 4])
def test_a_transparent_key_of_few_bits(bits: int) -> None:
    packed = {2: b"\x1b", 4: b"\x01\x23"}[bits]  # the values 0, 1, 2 and 3
    header = struct.pack(">IIBBBBB", 4, 1, bits, 0, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in (
            (b"IHDR", header),
            (b"tRNS", b"\0\1"),
            (b"IDAT", zlib.compress(b"\0" + packed)),
            (b"IEND", b""),
        )
    )
    factor = 255 // (2**bits - 1)
    expected = pixels(encoded(np.array([[0, 255, 2 * factor, 3 * factor]], np.uint8)), 4, 1)
    np.testing.assert_array_equal(pixels(content, 4, 1), expected)


def test_half_transparent_pixels_are_mixed_with_white() -> None:
    image = Image.new("RGBA", (8, 8), (100, 0, 200, 128))
    result = pixels(encoded(image), 8, 3)[:, 0, 0].astype(int)
    assert np.abs(result - [177, 127, 227]).max() <= 1


def test_opaque_pixels_keep_their_bytes() -> None:
    image = picture(7)
    opaque = Image.fromarray(image)
    opaque.putalpha(255)
    np.testing.assert_array_equal(pixels(encoded(opaque), 12, 3), image.transpose(2, 0, 1))


def pgm(values: np.ndarray, highest: int) -> bytes:
    """A PGM of 16 bits."""
    return f"P5\n16 16\n{highest}\n".encode() + values.astype(">u2").tobytes()


def twelve_bits(values: np.ndarray) -> np.ndarray:
    """Pairs of 12-bit values in three bytes."""
    first, second = values[:, ::2].astype(int), values[:, 1::2].astype(int)
    packed = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], -1)
    return packed.reshape(len(values), -1).astype(np.uint8)


WIDE = RAMP.astype(np.uint16) * 257


@pytest.mark.parametrize(
    "content",
    [
        pgm(WIDE, 65535),
        pgm(RAMP.astype(np.uint16) * 17, 4335),
        encoded(WIDE),
        encoded(WIDE, "TIFF"),
        encoded(WIDE.astype(">u2"), "TIFF"),
        encoded(WIDE, "JPEG2000"),
        encoded(WIDE, "TIFF", compression="tiff_lzw"),
        tiff(twelve_bits(RAMP.astype(np.uint16) * 16 + 8), 12),
        tiff(65535 - WIDE, 16, photometric=0),
        encoded(RAMP.astype(np.float32) / 255, "TIFF"),
        encoded(RAMP.astype(np.float32) / 255, "PPM"),
        tiff((1 - RAMP / 255).astype("<f4"), 32, photometric=0, sample_format=3),
    ],
    ids=[
        *("PGM", "PGM of 12 bits", "PNG", "TIFF", "TIFF, big-endian", "JPEG 2000", "TIFF, compressed"),
        *("TIFF of 12 bits", "TIFF, white is 0", "TIFF of floats", "PFM", "TIFF of floats, white is 0"),
    ],
)
def test_wide_grey_keeps_its_range(content: bytes) -> None:
    assert channels_of(content) == 1
    assert np.abs(np.array(grey(content)) - RAMP[0]).max() <= 1


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (encoded(WIDE.astype(np.int32), "TIFF"), "unknown range"),
        (tiff(RAMP.astype("<u4"), 32), "unknown range"),
        (tiff(RAMP.astype("<i2"), 16, sample_format=2), "unknown range"),
        (tiff(RAMP.astype(np.int8), 8, sample_format=2), "unknown range"),
        (encoded(RAMP.astype(np.float32), "TIFF"), "floats from 0 to 255, needed 0 to 1"),
        (encoded(RAMP.astype(np.float32) / 255 - 0.5, "TIFF"), "floats from -0.5 to 0.5"),
        (encoded(np.full((16, 16), np.nan, np.float32), "TIFF"), "floats from nan"),
        (encoded(np.full((16, 16), np.inf, np.float32), "TIFF"), "floats from inf"),
    ],
    ids=["int32", "uint32", "int16", "int8", "floats to 255", "negative floats", "NaN", "infinite"],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_an_unknown_range_is_refused(content: bytes, why: str, channels: int) -> None:
    with pytest.raises(BadImageError, match=why):
        pixels(content, 16, channels)


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "LAB"])
def test_other_colour_spaces(mode: str) -> None:
    stored = {"CMYK": (0, 255, 255, 0), "YCbCr": (76, 85, 255), "LAB": (136, 208, 195)}[mode]
    content = encoded(Image.new(mode, (16, 16), stored), "TIFF")
    result = pixels(content, 16, 3)[:, 0, 0].astype(int)
    assert np.abs(result - [255, 0, 0]).max() <= 12
    assert abs(int(pixels(content, 16, 1)[0, 0, 0]) - 76) <= 4


class Broken(ImageFile.ImageFile):
    """A plugin that fails in its own way."""

    format = "PNG"
    error: BaseException

    def _open(self) -> None:
        self._size, self._mode = (4, 4), "L"

    def load(self) -> Any:
        raise self.error


@pytest.mark.parametrize(
    "error",
    [RuntimeError("a\nb" + "c" * 900), NotImplementedError(), KeyError("x"), AssertionError(), ZeroDivisionError("0")],
    ids=lambda error: type(error).__name__,
)
def test_whatever_a_plugin_raises_is_a_bad_image(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Broken, "error", error, raising=False)
    monkeypatch.setitem(Image.OPEN, "PNG", (Broken, None))
    with pytest.raises(BadImageError) as caught:
        pixels(encoded(RAMP), 16, 1)
    assert 0 < len(str(caught.value)) <= 200
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("error", [MemoryError(), KeyboardInterrupt()], ids=lambda error: type(error).__name__)
def test_what_is_no_fault_of_the_image_is_raised(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Broken, "error", error, raising=False)
    monkeypatch.setitem(Image.OPEN, "PNG", (Broken, None))
    with pytest.raises(type(error)):
        pixels(encoded(RAMP), 16, 1)


def test_damaged_avif() -> None:
    complete = encoded(smooth(16, 16), "AVIF")
    kinds = set()
    for at in range(100, len(complete), 3):
        broken = complete[:at] + bytes(byte ^ 0x55 for byte in complete[at : at + 6]) + complete[at + 6 :]
        try:
            pixels(broken, 16, 3)
        except BadImageError as error:
            kinds.add(str(error).partition(":")[0])
    assert any("decode" in kind.lower() for kind in kinds)


@pytest.mark.filterwarnings("ignore")
def test_dds_of_an_unknown_kind() -> None:
    header = (
        b"DDS "
        + struct.pack("<7I44x", 124, 0x1007, 16, 16, 0, 0, 0)
        + struct.pack("<2I4s5I", 32, 4, b"ABCD", 0, 0, 0, 0, 0)
    )
    with pytest.raises(BadImageError):
        pixels(header.ljust(128, b"\0") + bytes(4096), 16, 3)


def test_formats_that_are_no_pictures_are_not_tried() -> None:
    content = encoded(smooth(16, 16), "EPS")
    assert Image.open(io.BytesIO(content)).format == "EPS"
    with pytest.raises(BadImageError, match="no image that Pillow knows"):
        pixels(content, 16, 3)
