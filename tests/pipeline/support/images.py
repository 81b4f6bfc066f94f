"""Small images, encoded and in folders, for the tests of the pipeline."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

CLASSES = ("ant", "bee", "cat")


def picture(number: int, height: int = 12, width: int = 12, channels: int = 3) -> np.ndarray:
    """uint8 [H, W, C], or [H, W] of one channel; noise that depends on ``number`` alone."""
    random = np.random.default_rng(number)
    shape = (height, width) if channels == 1 else (height, width, channels)
    return random.integers(0, 256, shape, dtype=np.uint8)


def smooth(height: int, width: int) -> np.ndarray:
    """uint8 [H, W, 3] without edges, so that all ways of resizing give nearly the same result."""
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(2 * np.pi * (a * x / width + b * y / height)) for a, b in ((1, 0), (0, 1), (1, 1))]
    return np.stack([(127.5 + 120 * wave).astype(np.uint8) for wave in waves], -1)


def encoded(image: np.ndarray | Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """The bytes of an image file."""
    opened = image if isinstance(image, Image.Image) else Image.fromarray(image)
    buffer = io.BytesIO()
    opened.save(buffer, kind, **options)
    return buffer.getvalue()


def number_of(split: str, label: int, index: int) -> int:
    """Number of the picture at a place of a folder."""
    return 10_000 * (split == "test") + 1000 * label + index


def write_folder(
    root: Path, counts: Mapping[str, int], classes: Sequence[str] = CLASSES, size: int = 12, channels: int = 3
) -> Path:
    """Writes ROOT/SPLIT/CLASS/000.png and so on, all different; the split "" stands for ROOT/CLASS."""
    for split, count in counts.items():
        for label, name in enumerate(classes):
            place = root / split / name
            place.mkdir(parents=True, exist_ok=True)
            for index in range(count):
                content = encoded(picture(number_of(split, label, index), size, size, channels))
                (place / f"{index:03d}.png").write_bytes(content)
    return root
