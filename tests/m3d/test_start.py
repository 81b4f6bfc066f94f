"""Starting images: mosaics, single images or noise."""

import pytest
import torch

from m3d import Condense, ConfigError, decode, images_needed, mosaic, starting_images
from tests.helpers import class_images, images_of


def start(name, *, count=20, **settings):
    return starting_images(class_images((0, 3), count=count), Condense(start=name, **settings))


@pytest.mark.parametrize("name", ["mix", "random", "noise"])
@pytest.mark.parametrize("factor", [1, 2, 3])
def test_smoke(name, factor):
    pixels = start(name, factor=factor, images_per_class=2)
    assert pixels.shape == (2, 2, 3, 8, 8)
    assert 0 <= float(pixels.min()) < float(pixels.max()) <= 1


def matching(image, candidates):
    """Positions of the candidates that equal an image."""
    return [i for i, candidate in enumerate(candidates) if torch.equal(image, candidate)]


def test_random_are_real_images_of_the_class():
    pixels = start("random", images_per_class=5)
    for k, class_id in enumerate((0, 3)):
        found = [matching(image, images_of(class_id, 20).float() / 255) for image in pixels[k]]
        assert all(len(positions) == 1 for positions in found)
        assert len({positions[0] for positions in found}) == 5


def test_mix_is_a_mosaic_of_different_real_images_of_the_class():
    pixels = start("mix", images_per_class=3, factor=2)
    used = set()
    for k, class_id in enumerate((0, 3)):
        real = images_of(class_id, 20).float() / 255
        small = mosaic(real[:, None].expand(-1, 4, -1, -1, -1), 2)  # every image in every tile
        for image in pixels[k]:
            for top, left in ((0, 0), (0, 4), (4, 0), (4, 4)):
                found = matching(image[:, top : top + 4, left : left + 4], small[:, :, top : top + 4, left : left + 4])
                assert len(found) == 1
                used.add((k, found[0]))
    assert len(used) == 2 * 3 * 4


def test_mix_at_factor_1_is_random():
    assert torch.equal(start("mix", factor=1, images_per_class=4), start("random", factor=1, images_per_class=4))


def test_noise():
    pixels = starting_images(class_images((0, 1), size=32), Condense(start="noise", images_per_class=8))
    inside = pixels[(pixels > 0) & (pixels < 1)]
    assert float(pixels.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(pixels.eq(0).float().mean()) == pytest.approx(0.0228, abs=0.005)  # two deviations below the mean
    assert float(((inside > 0.25) & (inside < 0.75)).float().sum() / pixels.numel()) == pytest.approx(0.683, abs=0.01)
    assert not torch.equal(pixels[0], pixels[1])


def test_seeds_differ():
    for name in ("mix", "random", "noise"):
        a, b = (starting_images(class_images((0,), seed=seed), Condense(start=name)) for seed in (0, 1))
        assert not torch.equal(a, b)


def test_decoded_mosaic_resembles_the_class():
    pixels = start("mix", images_per_class=2, factor=2)
    means = decode(pixels, 2).mean((1, 2))
    real = torch.stack([images_of(class_id, 20).float().mean((0, 1)) / 255 for class_id in (0, 3)])
    near = (means[:, None] - real[None]).square().mean((2, 3))
    assert near.argmin(1).tolist() == [0, 1]


@pytest.mark.parametrize(("name", "needed"), [("mix", 18), ("random", 2), ("noise", 1)])
def test_images_needed(name, needed):
    assert images_needed(Condense(start=name, images_per_class=2, factor=3)) == needed
    assert start(name, count=needed, images_per_class=2, factor=3).isfinite().all()


def test_exception_too_few_images():
    with pytest.raises(ConfigError, match="class 0: has 7 images, needed 8 for its starting images"):
        start("mix", count=7, images_per_class=2, factor=2)
