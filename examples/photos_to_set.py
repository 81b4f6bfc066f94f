"""Condenses a folder of photos in this process, without Ray, and stores the set.

    python examples/photos_to_set.py photos sets/photos

``photos`` has one folder of images per class. ``m3d run`` does the same with checkpoints, on several cores or GPUs, and evaluates the
result; this is the method as a function call.
"""

import argparse

import torch
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

import m3d
import pipeline


def main() -> None:
    """Reads the photos, condenses them and stores the set."""
    parser = argparse.ArgumentParser(description="Condense a folder of photos.")
    parser.add_argument("photos", help="folder with one folder of images per class")
    parser.add_argument("out", help="new folder for the condensed set")
    parser.add_argument("--size", type=int, default=64, help="side of the images in pixels")
    parser.add_argument("--images-per-class", type=int, default=1)
    parser.add_argument("--iterations", type=int, default=200)
    options = parser.parse_args()

    square = v2.Compose([v2.Resize(options.size), v2.CenterCrop(options.size), v2.PILToTensor()])
    photos = ImageFolder(options.photos, transform=square)
    images = torch.stack([image for image, _ in photos])  # uint8 [n, 3, size, size]
    labels = torch.tensor(photos.targets)

    condensed = m3d.condense(
        images,
        labels,
        encoder=m3d.Encoder(name="convnet3" if options.size <= 32 else "convnet4"),
        images_per_class=options.images_per_class,
        iterations=options.iterations,
    )
    pipeline.save_condensed(condensed, options.out, photos.classes, name="photos")
    print(pipeline.load_condensed(options.out))


if __name__ == "__main__":
    main()
