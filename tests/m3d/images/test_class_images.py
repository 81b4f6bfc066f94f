"""Batches of real images: without replacement within an epoch, a function of (seed, class id, iteration)."""

from collections import Counter

import pytest
import torch

from m3d import ClassImages, ConfigError, ShapeError
from tests.helpers import class_images, unchecked


def numbered(count, class_id=0):
    """Images that hold their own position in their only pixel row, and their class."""
    images = torch.zeros(count, 1, 1, 2, dtype=torch.uint8)
    images[:, 0, 0, 0] = torch.arange(count)
    images[:, 0, 0, 1] = class_id
    return images


def test_smoke():
    real = class_images(range(3), count=20)
    assert real.batch(0, 12).shape == (3, 12, 3, 8, 8)
    assert real.batch(0, 12).dtype == torch.uint8
    assert real.shape == (3, 8, 8)
    assert real.counts == (20, 20, 20)


def test_batch_holds_the_images_of_the_indices():
    real = ClassImages([numbered(9, 4), numbered(5, 2), numbered(7, 11)], [4, 2, 11], seed=0)
    rows, batch = real.sampler.indices(3, 6), real.batch(3, 6)
    assert torch.equal(batch[:, :, 0, 0, 0].long(), rows)
    assert batch[:, :, 0, 0, 1].tolist() == [[4] * 6, [2] * 6, [11] * 6]


@pytest.mark.parametrize("batch", [5, 12])
def test_rows_are_the_indices_across_windows(batch):
    real = ClassImages([numbered(9, 4), numbered(5, 2)], [4, 2], seed=0)
    for iteration in (0, 63, 64, 200, 1, 65):
        expected = real.sampler.indices(iteration, batch) + torch.tensor([[0], [9]])
        assert real.rows(iteration, batch).tolist() == expected.flatten().tolist()


def test_without_replacement_within_an_epoch():
    real = ClassImages([numbered(20)], [0], seed=0)
    for epoch in range(3):
        seen = torch.cat([real.sampler.indices(epoch * 4 + i, 5)[0] for i in range(4)])
        assert sorted(seen.tolist()) == list(range(20))


@pytest.mark.parametrize(("count", "batch"), [(20, 7), (5, 12), (1, 3), (6, 6)])
def test_stream_over_epochs(count, batch):
    """Batch after batch, the stream is one complete order of the images after another."""
    real = ClassImages([numbered(count)], [3], seed=1)
    stream = torch.cat([real.sampler.indices(i, batch)[0] for i in range(3 * count)]).tolist()
    epochs = [stream[i : i + count] for i in range(0, len(stream) - count + 1, count)]
    assert all(sorted(epoch) == list(range(count)) for epoch in epochs)
    assert count == 1 or len(set(map(tuple, epochs))) > 1


def test_a_class_smaller_than_the_batch_is_seen_about_equally_often():
    real = ClassImages([numbered(5)], [0], seed=0)
    counted = Counter(real.sampler.indices(7, 12)[0].tolist())
    assert set(counted.values()) <= {2, 3}
    assert len(counted) == 5


def test_iterations_in_any_order():
    forward, back = (ClassImages([numbered(7), numbered(30)], [0, 1], seed=0) for _ in range(2))
    in_order = [forward.sampler.indices(i, 10) for i in range(8)]
    for i in (7, 0, 3, 3, 1, 6):
        assert torch.equal(back.sampler.indices(i, 10), in_order[i])


def test_seeds_and_classes_differ():
    a, b = (ClassImages([numbered(30), numbered(30)], [0, 1], seed=seed).sampler.indices(0, 30) for seed in (0, 1))
    assert not torch.equal(a[0], a[1])
    assert not torch.equal(a[0], b[0])


def test_first_takes_different_images():
    real = ClassImages([numbered(9, 1), numbered(6, 2)], [1, 2], seed=0)
    chosen = real.first(6, "start")
    assert chosen.shape == (2, 6, 1, 1, 2)
    assert all(len(set(chosen[k, :, 0, 0, 0].tolist())) == 6 for k in range(2))
    assert chosen[0, :, 0, 0, 1].eq(1).all()
    assert chosen[1, :, 0, 0, 1].eq(2).all()
    assert torch.equal(real.first(3, "start"), chosen[:, :3])
    assert not torch.equal(real.first(6, "other"), chosen)


def test_exception_too_few_images():
    with pytest.raises(ConfigError, match="class 7: has 3 images, needed 4 for its starting images"):
        ClassImages([numbered(9), numbered(3)], [2, 7], seed=0).first(4, "start")


def test_exception_dtype():
    with unchecked(), pytest.raises(ConfigError, match=r"images of class 5: given torch\.float32, needed torch\.uint8"):
        ClassImages([torch.rand(4, 1, 8, 8)], [5], seed=0)


@pytest.mark.parametrize("wrong", [(4, 8, 8), (4, 1, 8, 9), (0, 1, 8, 8)], ids=["axes", "size", "empty"])
def test_exception_shapes(wrong):
    images = [torch.zeros(4, 1, 8, 8, dtype=torch.uint8), torch.zeros(wrong, dtype=torch.uint8)]
    with (
        unchecked(),
        pytest.raises(ShapeError, match=r"images of class 6 has shape .*; expected \[n, 1, 8, 8\], n > 0"),
    ):
        ClassImages(images, [5, 6], seed=0)


def test_exception_ids():
    with pytest.raises(ConfigError, match="given 1 sets of images for 2 class ids"):
        ClassImages([numbered(4)], [0, 1], seed=0)
    with pytest.raises(ConfigError, match="given 0 sets of images"):
        ClassImages([], [], seed=0)
