"""Trains a network of timm on a condensed set, and scores it on a folder of photos.

    python examples/train_with_timm.py runs/photos photos --model resnet18

Any other library that takes a torch Dataset works in the same way.
"""

import argparse

import timm
import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

import pipeline


def main() -> None:
    """Trains, scores and prints the accuracy."""
    parser = argparse.ArgumentParser(description="Train a network of timm on a condensed set.")
    parser.add_argument("set", help="folder of a run or of a condensed set")
    parser.add_argument("photos", help="folder with one folder of images per class, for the score")
    parser.add_argument("--model", default="resnet18", help="a network of timm.list_models()")
    parser.add_argument("--epochs", type=int, default=100)
    options = parser.parse_args()

    torch.manual_seed(0)
    dataset = pipeline.load_condensed(options.set, transform=v2.RandomHorizontalFlip())
    channels, size = dataset.images.shape[1], dataset.images.shape[-1]
    network = timm.create_model(options.model, num_classes=len(dataset.classes), in_chans=channels)
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, options.epochs)
    for _ in range(options.epochs):
        for images, labels in DataLoader(dataset, batch_size=32, shuffle=True):
            optimiser.zero_grad()
            cross_entropy(network(images), labels).backward()
            optimiser.step()
        schedule.step()

    # Photos are prepared as the set was: resized, cropped, and normalised with the moments of the real images.
    prepare = v2.Compose(
        [
            *([v2.Grayscale()] if channels == 1 else []),
            *(v2.Resize(size), v2.CenterCrop(size), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)),
            v2.Normalize(list(dataset.mean), list(dataset.std)),
        ]
    )
    photos = ImageFolder(options.photos, transform=prepare)
    if photos.classes != dataset.classes:
        raise SystemExit(f"{options.photos} has the classes {photos.classes}, the set {dataset.classes}")
    network.eval()
    with torch.no_grad():
        right = sum(
            int((network(images).argmax(1) == labels).sum()) for images, labels in DataLoader(photos, batch_size=64)
        )
    print(f"{options.model}: {100 * right / len(photos):.1f} % of {len(photos)} photos")


if __name__ == "__main__":
    main()
