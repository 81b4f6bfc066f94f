"""Draws the pictures of condensed digits in docs/images from finished runs.

Run ``python -m docs.pictures CELL RUN`` in the project's folder. CELL is a cell of docs/results.md, and RUN a run with its settings;
the cell digits_ipc1 also gives the pictures of README.md and docs/concepts.md.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.data.prepared_dataset import PreparedDataset
from pipeline.formats.condensed_reader import load_condensed
from pipeline.formats.run_folder import RunFolder

IMAGES = Path(__file__).resolve().parent / "images"
SIDE, SMALL, GAP = 88, 48, 8
"""Pixels of an image in a picture of few images and of many, and between two images.

The gap is transparent, so that pictures suit light and dark pages.
"""
VIEWED = (3, 8)
"""Classes whose views are shown."""


def grid(rows: list[list[np.ndarray]], side: int) -> Image.Image:
    """Images [C, H, W] in [0, 1] in rows on a transparent ground."""
    width, height = max(map(len, rows)), len(rows)
    picture = Image.new("RGBA", (width * (side + GAP) - GAP, height * (side + GAP) - GAP))
    for y, row in enumerate(rows):
        for x, image in enumerate(row):
            picture.paste(tile(image, side), (x * (side + GAP), y * (side + GAP)))
    return picture


def tile(image: np.ndarray, side: int) -> Image.Image:
    """An image [C, H, W] in [0, 1], enlarged without smoothing."""
    pixels = (image.clip(0, 1) * 255).round().astype(np.uint8)
    shown = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
    return shown.resize((side, side), Image.Resampling.NEAREST).convert("RGBA")


def draw(cell: str, run: str) -> None:
    """Writes CELL.png, a column of stored images per class; of digits_ipc1 also the pictures of the other pages."""
    stored = load_condensed(run, decode=False, normalise=False)
    classes, per_class = len(stored.class_names), len(stored) // len(stored.class_names)
    images = stored.images.numpy().reshape(classes, per_class, *stored.images.shape[1:])
    save(f"{cell}.png", grid([list(images[:, place]) for place in range(per_class)], SMALL))
    if cell == "digits_ipc1":
        views = load_condensed(run, normalise=False)
        of_class = {label: views.images[views.labels == label].numpy() for label in VIEWED}
        save("digits-views.png", grid([[images[label, 0], *of_class[label]] for label in VIEWED], SIDE))
        save("digits-condensed.png", grid([real_images(run), list(images[:, 0])], SIDE))


def real_images(run: str) -> list[np.ndarray]:
    """The first training image of every class."""
    folder = RunFolder.at(run)
    record = folder.read_record()
    if record is None:
        sys.exit(f"{run} has no config.json: give the folder of a finished run")
    real = PreparedDataset(record["resolved"]["class_shards"], folder.read_config().data)
    return [real.train(label)[0].numpy() / 255 for label in range(len(real.classes))]


def save(name: str, picture: Image.Image) -> None:
    """Writes a picture, with its colours in a palette."""
    picture.quantize(256).save(IMAGES / name, optimize=True)
    print(f"wrote {IMAGES / name}")


if __name__ == "__main__":
    draw(*sys.argv[1:])
