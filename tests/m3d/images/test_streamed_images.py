"""Images that are not stored on the device: the same batches and the same condensed set as those that are."""

import itertools

import numpy as np
import pytest
import torch

from m3d import (
    ClassImages,
    Condense,
    Condenser,
    ConfigError,
    Encoder,
    ImageParts,
    Method,
    RealImages,
    ShapeError,
    StreamedImages,
)
from tests.helpers import MEAN, STD, images_of


def parts_of(images: torch.Tensor, cuts: list[int], kept: list[int] | None = None) -> ImageParts:
    """The images cut into several tensors."""
    edges = [0, *cuts, len(images)]
    parts = [images[a:b] for a, b in itertools.pairwise(edges)]
    return ImageParts(parts, None if kept is None else torch.tensor(kept))


def pair(kept: list[int] | None = None) -> tuple[ClassImages, StreamedImages]:
    """Two classes of 20 and 13 images, on the device and streamed."""
    images = [images_of(0, 20), images_of(1, 13)]
    whole = [one if kept is None else one[kept] for one in images]
    streamed = [parts_of(one, [3, 4, 9], kept) for one in images]
    return ClassImages(whole, (4, 7), seed=3), StreamedImages(streamed, (4, 7), seed=3)


@pytest.mark.parametrize("kept", [None, [0, 2, 3, 5, 8, 11]])
def test_the_same_batches(kept: list[int] | None) -> None:
    stored, streamed = pair(kept)
    assert streamed.counts == stored.counts
    assert streamed.shape == stored.shape
    for iteration in (0, 1, 2, 70, 3):
        rows = streamed.rows(iteration, 8)
        expected = stored.pixels_TCHW[stored.rows(iteration, 8)]
        assert torch.equal(streamed.pixels_TCHW[rows], expected)
        assert torch.equal(streamed.batch(iteration, 8), stored.batch(iteration, 8))
    assert torch.equal(streamed.first(4, "start"), stored.first(4, "start"))


def test_both_are_real_images() -> None:
    assert all(isinstance(real, RealImages) for real in pair())


def test_rows_of_parts() -> None:
    images = images_of(0, 20)
    rows = torch.tensor([19, 0, 3, 3, 8, 4])
    assert torch.equal(parts_of(images, [1, 4, 15]).take(rows), images[rows])
    assert len(parts_of(images, [5], [1, 2])) == 2


def test_the_same_condensed_set() -> None:
    results = []
    for real in pair():
        condenser = Condenser(
            real,
            Method(
                encoder=Encoder(name="convnet2", width=8),
                condense=Condense(iterations=5, batch_real=6, precision="float32"),
            ),
            mean=MEAN,
            std=STD,
            class_count=8,
        )
        state = condenser.init()
        for _ in range(5):
            state, _ = condenser.step(state)
        results.append(condenser.result(state).images_KSCHW)
    assert torch.equal(*results)


def test_mapped_arrays_are_not_copied() -> None:
    array = np.zeros((4, 3, 8, 8), np.uint8)
    parts = ImageParts([torch.from_numpy(array)])
    array[2] = 7
    assert int(parts.take(torch.tensor([2])).max()) == 7


def test_what_does_not_fit() -> None:
    images = images_of(0, 6)
    with pytest.raises(ShapeError):
        ImageParts([images, images[:, :1]])
    with pytest.raises(ShapeError):
        ImageParts([])
    with pytest.raises(ConfigError, match="2 class ids"):
        StreamedImages([ImageParts([images])], (0, 1), seed=0)
    with pytest.raises(ConfigError, match="has 6 images, needed 7"):
        StreamedImages([ImageParts([images])], (0,), seed=0).first(7, "start")
