"""Draws are functions of (seed, purpose, counters): even, independent, and the same in every grouping."""

import pytest
import torch

from m3d import Augment, Condense, starting_images
from m3d.augment import draw
from m3d.seeding import derive, generator, permutation, uniforms
from tests.helpers import class_images, condenser_of

IDS = torch.arange(10)


def test_smoke():
    u = uniforms(0, "test", IDS, 0, 7)
    assert u.shape == (10, 7)
    assert u.dtype == torch.float32
    assert torch.equal(u, uniforms(0, "test", IDS, 0, 7))


def test_uniforms_lie_in_the_half_open_unit_interval():
    u = uniforms(1, "test", torch.arange(1000), 3, 1000)
    assert 0 <= float(u.min()) < 1e-5
    assert 1 - 1e-5 < float(u.max()) < 1
    assert bool((u * 2**24 == (u * 2**24).floor()).all())


@pytest.mark.parametrize("axis", ["position", "class", "iteration"])
def test_uniforms_are_even(axis):
    if axis == "iteration":
        u = torch.cat([uniforms(2, "test", torch.tensor([5]), i, 1)[0] for i in range(4096)])
    else:
        shape = (1, 16384) if axis == "position" else (16384, 1)
        u = uniforms(2, "test", torch.arange(shape[0]), 0, shape[1]).flatten()
    n = len(u)
    assert abs(float(u.mean()) - 0.5) < 4 / (12 * n) ** 0.5
    assert abs(float(u.var()) - 1 / 12) < 4 / (180 * n) ** 0.5
    counts = torch.histc(u, bins=64, min=0, max=1)
    chi_square = float(((counts - n / 64) ** 2 / (n / 64)).sum())
    assert 25 < chi_square < 120  # 63 degrees of freedom: 63 +- 11
    assert abs(float(torch.corrcoef(torch.stack([u[:-1], u[1:]]))[0, 1])) < 4 / n**0.5


@pytest.mark.parametrize(
    "other",
    [(1, "test", 0, 0), (0, "tests", 0, 0), (0, "test", 1, 0), (0, "test", 0, 1)],
    ids=["seed", "purpose", "iteration", "class"],
)
def test_different_counters_are_not_correlated(other):
    seed, purpose, iteration, shift = other
    a = uniforms(0, "test", torch.arange(100), 0, 100).flatten()
    b = uniforms(seed, purpose, torch.arange(100) + 1000 * shift, iteration, 100).flatten()
    assert float((a == b).float().mean()) < 0.001
    assert abs(float(torch.corrcoef(torch.stack([a, b]))[0, 1])) < 4 / len(a) ** 0.5


def test_neighbouring_classes_and_iterations_are_all_different():
    u = torch.stack([uniforms(0, "test", torch.arange(64), i, 4) for i in range(64)])
    assert len(u.flatten(0, 1).unique(dim=0)) == 64 * 64


def test_a_subset_of_the_classes_gets_the_same_rows():
    chosen = torch.tensor([7, 2, 5])
    assert torch.equal(uniforms(3, "test", chosen, 11, 6), uniforms(3, "test", IDS, 11, 6)[chosen])
    assert torch.equal(uniforms(3, "test", IDS, 11, 6)[:, :4], uniforms(3, "test", IDS, 11, 4))


def test_derive_is_pinned():
    # Computed with hashlib alone. A change would change the draws of every stored run.
    assert derive(0, "encoder", 0) == 9073742018205216071
    assert derive(0, "encoder", 1) == 6811295263905388438
    assert derive(2026, "start", 3) == 9111313193143600867
    assert derive(-1, "sample", 3, 4) == 6806584746611701452


def test_uniforms_are_pinned():
    # Computed with unsigned integers of any length in plain Python, from the constants of SplitMix64.
    expected = [[7004484, 1803, 15813054, 9710392]]
    assert (uniforms(0, "augment", torch.tensor([3]), 2, 4) * 2**24).long().tolist() == expected


def test_derive_distinguishes_counters():
    made = {derive(s, p, *c) for s in (0, 1) for p in ("a", "b") for c in ((), (1,), (11,), (1, 1), (1, 11), (11, 1))}
    assert len(made) == 2 * 2 * 6
    assert all(0 <= value < 2**63 for value in made)


def test_generator_is_at_the_start_of_its_stream():
    a, b = (torch.rand(3, generator=generator(0, "x", 1)) for _ in range(2))
    assert torch.equal(a, b)
    assert not torch.equal(a, torch.rand(3, generator=generator(0, "x", 2)))


def test_permutation():
    order = permutation(0, "sample", 4, 0, 50)
    assert sorted(order.tolist()) == list(range(50))
    assert torch.equal(order, permutation(0, "sample", 4, 0, 50))
    for other in (
        permutation(1, "sample", 4, 0, 50),
        permutation(0, "sample", 5, 0, 50),
        permutation(0, "sample", 4, 1, 50),
    ):
        assert not torch.equal(order, other)


GROUPS = (range(10), range(5), range(5, 10))


def in_groups(function):
    """What a function of class ids returns for ten classes, and for the same in two groups of five."""
    whole, first, second = (function(ids) for ids in GROUPS)
    return whole, torch.cat([first, second])


def test_groups_uniforms():
    assert torch.equal(*in_groups(lambda ids: uniforms(0, "test", torch.tensor(list(ids)), 4, 3)))


@pytest.mark.parametrize("iteration", [0, 1, 9])
def test_groups_indices(iteration):
    assert torch.equal(*in_groups(lambda ids: class_images(ids).sampler.indices(iteration, 12)))
    assert torch.equal(*in_groups(lambda ids: class_images(ids).batch(iteration, 12)))


@pytest.mark.parametrize(
    "field", ["brightness", "saturation", "contrast", "shift_y", "shift_x", "angle", "cut_y", "scale_x"]
)
def test_groups_augment(field):
    def function(ids):
        return getattr(draw(Augment(), 0, torch.tensor(list(ids)), 3, 32, 32), field)

    assert torch.equal(*in_groups(function))


@pytest.mark.parametrize("start", ["mix", "random", "noise"])
def test_groups_starting_images(start):
    config = Condense(images_per_class=2, start=start)
    assert torch.equal(*in_groups(lambda ids: starting_images(class_images(ids), config)))


def test_groups_subset_of_views():
    def chosen(ids):
        condenser = condenser_of(ids, class_count=10, images_per_class=9, factor=1, batch_synthetic_max=4)
        pixels = torch.arange(9.0).view(1, 9, 1, 1, 1).expand(len(ids), 9, 3, 8, 8)
        return condenser._tiles(pixels, 5)[:, :, 0, 0, 0]

    whole, parts = in_groups(chosen)
    assert torch.equal(whole, parts)
    assert all(len(set(row)) == 4 for row in whole.tolist())
    assert len(set(map(tuple, whole.tolist()))) > 5  # each class has a subset of its own
