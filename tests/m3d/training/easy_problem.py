"""A problem that a small network learns in a few epochs: two classes, bright above or bright below."""

import torch

from m3d import Augment, Recipe, TestSet, Train

QUIET = Train(epochs=15, batch=16, augment=Augment(strategy="none"))


def recipe_of(training: Train, architecture: str = "convnet1") -> Recipe:
    """A recipe in float32 without a compiler."""
    return Recipe(architecture=architecture, training=training)


def easy(count=40, seed=0):
    """uint8 images [count, 3, 8, 8], and labels."""
    labels = torch.arange(count) % 2
    images = torch.full((count, 3, 8, 8), 60.0) + 40 * torch.rand(
        count, 3, 8, 8, generator=torch.Generator().manual_seed(seed)
    )
    images[labels == 0, :, :4] += 120
    images[labels == 1, :, 4:] += 120
    return images.to(torch.uint8), labels


def held_out(count=40):
    """A test set of other images."""
    images, labels = easy(count, seed=1)
    return TestSet(images=images, labels=labels, mean=(0.5,) * 3, std=(0.25,) * 3, classes=2)


def easy_training():
    """Normalised training images and labels."""
    images, labels = easy()
    return (images.float() / 255 - 0.5) / 0.25, labels
