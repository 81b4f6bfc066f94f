"""Every operation against a separate computation; siamese: one draw does the same to any batch."""

import math
from dataclasses import replace

import pytest
import torch

from m3d import Augment, ConfigError
from m3d.augment import Draw, apply, cutout_side, draw, draw_from, slots
from tests.helpers import assert_close, random

SIZE = 8
STRATEGIES = ["color", "crop", "scale", "rotate", "cutout", "flip", "color_crop_cutout", "color_crop_flip_scale_rotate"]


def drawn(on: str = "", classes: int = 1, **values: list[float]) -> Draw:
    """Known parameters: neutral except for those given; ``on`` are the operations that are applied."""
    neutral = {"saturation": 1.0, "contrast": 1.0, "scale_y": 1.0, "scale_x": 1.0}
    names = [name for name in Draw.__dataclass_fields__ if name != "operations"]
    tensors = {name: torch.tensor(values.get(name, [neutral.get(name, 0.0)] * classes)) for name in names}
    names_on = {name: torch.tensor([True] * classes) for name in on.split("_") if name}
    return Draw(operations=names_on, **tensors)


def sampled(image, from_y, from_x):
    """Bilinear value of one image [H, W] at a position in pixels, zero outside, in plain loops."""
    total = 0.0
    for y in (math.floor(from_y), math.floor(from_y) + 1):
        for x in (math.floor(from_x), math.floor(from_x) + 1):
            if 0 <= y < image.shape[0] and 0 <= x < image.shape[1]:
                total += float(image[y, x]) * (1 - abs(from_y - y)) * (1 - abs(from_x - x))
    return total


@pytest.mark.parametrize("pick", ["geometric", "any"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_smoke_and_cardinality(strategy, pick):
    config = Augment(strategy=strategy, pick=pick)
    x = random(3, 4, 2, SIZE, SIZE, dtype=torch.float32)
    out = apply(x, draw(config, 0, torch.arange(3), 0, SIZE, SIZE), config)
    assert out.shape == x.shape
    assert out.dtype == x.dtype
    assert out.isfinite().all()


@pytest.mark.parametrize("pick", ["geometric", "any"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_siamese(strategy, pick):
    """Two batches under one draw: an image in both is augmented the same in both, and every time."""
    config = Augment(strategy=strategy, pick=pick)
    a, b = random(3, 4, 2, SIZE, SIZE, seed=1), random(3, 6, 2, SIZE, SIZE, seed=2)
    b[:, 5] = a[:, 0]
    one = draw(config, 0, torch.arange(3), 0, SIZE, SIZE)
    out_a, out_b = apply(a, one, config), apply(b, one, config)
    assert_close(out_a[:, 0], out_b[:, 5])
    assert torch.equal(out_a, apply(a, one, config))
    joint = apply(torch.cat([a, b], 1), one, config)
    assert_close(joint, torch.cat([out_a, out_b], 1))


def test_none_is_identity():
    x = random(2, 3, 1, SIZE, SIZE)
    for strategy in ("none", ""):
        config = Augment(strategy=strategy)
        assert torch.equal(apply(x, draw(config, 0, torch.arange(2), 0, SIZE, SIZE), config), x)


@pytest.mark.parametrize(("down", "right"), [(0, 0), (2, 0), (-1, 3), (0, -4), (7, -7)])
def test_crop_feature(down, right):
    config, x = Augment(strategy="crop"), random(1, 2, 3, SIZE, SIZE)
    expected = torch.zeros_like(x)
    for y in range(SIZE):
        for z in range(SIZE):
            if 0 <= y - down < SIZE and 0 <= z - right < SIZE:
                expected[..., y, z] = x[..., y - down, z - right]
    shift = drawn("crop", shift_y=[float(down)], shift_x=[float(right)])
    assert torch.equal(apply(x, shift, config), expected)
    # The way of several geometric operations gets to the same place.
    among = {name: torch.tensor([name == "crop"]) for name in ("crop", "scale", "rotate")}
    by_affine = apply(x, replace(shift, operations=among), Augment(strategy="crop_scale_rotate"))
    assert_close(by_affine, expected, rtol=1e-5, atol=1e-5)


def test_flip_feature():
    x = random(2, 3, 1, SIZE, SIZE)
    one = replace(drawn(classes=2), operations={"flip": torch.tensor([True, False])})
    out = apply(x, one, Augment(strategy="flip"))
    assert torch.equal(out[0], x[0][..., torch.arange(SIZE - 1, -1, -1)])
    assert torch.equal(out[1], x[1])


def test_flip_probability():
    for probability in (0.0, 0.3, 1.0):
        one = draw(Augment(strategy="flip", flip_probability=probability), 0, torch.arange(4000), 0, SIZE, SIZE)
        assert float(one.operations["flip"].float().mean()) == pytest.approx(probability, abs=0.03)


@pytest.mark.parametrize(
    ("brightness", "saturation", "contrast"), [(0.3, 1, 1), (0, 1.7, 1), (0, 1, 0.6), (-0.4, 0.2, 1.3)]
)
def test_color_feature(brightness, saturation, contrast):
    config, x = Augment(strategy="color"), random(1, 2, 3, 4, 4)
    out = apply(
        x, drawn("color", brightness=[brightness], saturation=[float(saturation)], contrast=[float(contrast)]), config
    )
    for b in range(2):
        bright = x[0, b] + brightness
        grey = (bright[0] + bright[1] + bright[2]) / 3
        saturated = torch.stack([(channel - grey) * saturation + grey for channel in bright])
        mean = saturated.sum() / saturated.numel()
        assert_close(out[0, b], (saturated - mean) * contrast + mean, torch.float32)


@pytest.mark.parametrize("centre", [(4, 4), (0, 0), (0, 8), (8, 3), (2, 7)])
@pytest.mark.parametrize("ratio", [0.5, 0.375], ids=["even", "odd"])
def test_cutout_feature(centre, ratio):
    config, x = Augment(strategy="cutout", cutout_ratio=ratio), torch.ones(1, 2, 3, SIZE, SIZE)
    side = cutout_side(config, SIZE)
    assert side == round(SIZE * ratio)
    out = apply(x, drawn("cutout", cut_y=[float(centre[0])], cut_x=[float(centre[1])]), config)
    for y in range(SIZE):
        for z in range(SIZE):
            inside = all(c - side // 2 <= at < c - side // 2 + side for c, at in zip(centre, (y, z), strict=True))
            assert out[..., y, z].eq(0 if inside else 1).all()


def test_cutout_removes_something_wherever_it_is():
    config = Augment(strategy="cutout")
    one = draw(config, 0, torch.arange(500), 0, SIZE, SIZE)
    removed = (apply(torch.ones(500, 1, 1, SIZE, SIZE), one, config) == 0).sum((1, 2, 3, 4))
    assert int(removed.min()) == 4  # a quarter of the square, in a corner
    assert int(removed.max()) == 16


@pytest.mark.parametrize("strategy", ["scale", "rotate", "scale_rotate"])
def test_affine_identity(strategy):
    x = random(2, 3, 1, SIZE, SIZE)
    assert_close(apply(x, drawn(strategy, classes=2), Augment(strategy=strategy)), x)


@pytest.mark.parametrize(("scale_y", "scale_x"), [(1.2, 1.2), (0.83, 1.1)])
def test_scale_feature(scale_y, scale_x):
    x, middle = random(1, 1, 1, SIZE, SIZE), (SIZE - 1) / 2
    out = apply(x, drawn("scale", scale_y=[scale_y], scale_x=[scale_x]), Augment(strategy="scale"))
    expected = [
        [sampled(x[0, 0, 0], middle + scale_y * (y - middle), middle + scale_x * (z - middle)) for z in range(SIZE)]
        for y in range(SIZE)
    ]
    assert_close(out[0, 0, 0], torch.tensor(expected), torch.float32)


@pytest.mark.parametrize("degrees", [15, -7, 90])
def test_rotate_feature(degrees):
    x, middle, angle = random(1, 1, 1, SIZE, SIZE), (SIZE - 1) / 2, math.radians(degrees)
    out = apply(x, drawn("rotate", angle=[angle]), Augment(strategy="rotate"))
    cosine, sine = math.cos(angle), math.sin(angle)
    expected = [
        [
            sampled(
                x[0, 0, 0],
                middle + sine * (z - middle) + cosine * (y - middle),
                middle + cosine * (z - middle) - sine * (y - middle),
            )
            for z in range(SIZE)
        ]
        for y in range(SIZE)
    ]
    assert_close(out[0, 0, 0], torch.tensor(expected), torch.float32, atol=1e-4)
    assert degrees != 90 or torch.allclose(out, x.rot90(1, (-2, -1)), atol=1e-4)


def test_pick_geometric_is_one_of_crop_scale_rotate_and_all_others():
    on = draw(Augment(strategy="color_crop_flip_scale_rotate_cutout"), 0, torch.arange(900), 0, SIZE, SIZE).operations
    geometric = torch.stack([on["crop"], on["scale"], on["rotate"]])
    assert geometric.sum(0).eq(1).all()
    assert geometric.sum(1).min() > 240
    assert on["color"].all()
    assert on["cutout"].all()
    assert draw(Augment(strategy="color_crop"), 0, torch.arange(9), 0, SIZE, SIZE).operations["crop"].all()


def test_pick_any_applies_one_operation_only():
    strategy = "color_crop_cutout_scale_rotate"
    config = Augment(strategy=strategy, pick="any")
    one, x = draw(config, 0, torch.arange(40), 0, SIZE, SIZE), random(40, 2, 3, SIZE, SIZE, dtype=torch.float32)
    out, on = apply(x, one, config), one.operations
    assert torch.stack(list(on.values())).sum(0).eq(1).all()
    for name in strategy.split("_"):
        k = on[name].nonzero()[:, 0]
        assert len(k) > 1
        alone = replace(one, operations={name: torch.ones(40, dtype=torch.bool)})
        assert_close(out[k], apply(x, alone, Augment(strategy=name))[k])


@pytest.mark.parametrize("strategy", [*STRATEGIES, "color_crop_flip_scale_rotate_cutout"])
def test_gradcheck(strategy):
    config = Augment(strategy=strategy)
    one = draw(config, 3, torch.arange(2), 0, 4, 4)
    x = random(2, 1, 2, 4, 4).requires_grad_(True)
    assert torch.autograd.gradcheck(lambda images: apply(images, one, config), (x,))


def test_ranges_of_the_draw():
    config = Augment(strategy="color_crop_flip_scale_rotate_cutout")
    one = draw(config, 0, torch.arange(4000), 0, 32, 32)
    ranges = {
        "brightness": (-0.5, 0.5), "saturation": (0, 2), "contrast": (0.5, 1.5), "shift_y": (-4, 4), "shift_x": (-4, 4),
        "scale_y": (1 / 1.2, 1.2), "scale_x": (1 / 1.2, 1.2), "angle": (-math.pi / 12, math.pi / 12),
        "cut_y": (0, 32), "cut_x": (0, 32),
    }  # fmt: skip
    for name, (low, high) in ranges.items():
        values = getattr(one, name)
        assert float(values.min()) == pytest.approx(low, abs=0.01)
        assert float(values.max()) == pytest.approx(high, abs=0.01)
        assert float(values.mean()) == pytest.approx((low + high) / 2, abs=(high - low) / 40)
    assert one.shift_y.frac().eq(0).all()
    assert one.cut_x.frac().eq(0).all()


def test_parameters_differ_between_classes_iterations_and_seeds():
    def parameters(seed, ids, iteration):
        one = draw(Augment(), seed, torch.tensor(ids), iteration, 32, 32)
        return torch.stack(
            [one.brightness, one.saturation, one.contrast, one.shift_y, one.shift_x, one.cut_y, one.cut_x]
        )

    all_drawn = [parameters(0, [0, 1], 0), parameters(0, [0, 1], 1), parameters(1, [0, 1], 0)]
    columns = torch.cat(all_drawn, 1).T
    assert len(columns.unique(dim=0)) == 6
    assert len({round(float(v), 6) for v in columns[0, :3]}) == 3  # its own number for each parameter
    assert torch.equal(parameters(0, [1], 0)[:, 0], all_drawn[0][:, 1])


def test_draw_from_takes_the_numbers_as_they_are():
    one = draw_from(Augment(), torch.full((2, slots()), 0.5), 32, 32)
    assert_close(one.brightness, [0.0, 0.0])
    assert_close(one.saturation, [1.0, 1.0])
    assert_close(one.contrast, [1.0, 1.0])
    assert_close(one.shift_y, [0.0, 0.0])


def test_exception():
    with pytest.raises(ConfigError, match=r"^strategy: given 'color_blur', allowed: none, or a selection of flip"):
        Augment(strategy="color_blur")


def test_without():
    config = Augment(strategy="color_crop_flip")
    assert config.without("flip").operations == ("color", "crop")
    assert Augment(strategy="flip").without("flip").strategy == "none"
