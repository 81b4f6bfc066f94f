"""Networks by name: sizes, cost, seeded weights, and that images do not mix."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from m3d import ConfigError
from m3d.encoders import build, check_name, names
from m3d.encoders.plain import Vgg11
from m3d.encoders.vit import VitTiny, patch_side
from tests.helpers import assert_close, random


def made(name, size=32, *, seed=0, channels=3, classes=10, width=128, device="cpu"):
    drawn = torch.Generator().manual_seed(seed)
    return build(name, channels=channels, image_size=size, classes=classes, generator=drawn, width=width, device=device)


EVALUATED = ["convnet3", "resnet18", "resnetap10", "vgg11", "alexnet", "lenet", "mlp", "vit_tiny"]


@pytest.mark.parametrize("name", ["convnet1", *EVALUATED])
def test_smoke(name):
    network = made(name, width=16, channels=1)
    with torch.no_grad():
        assert network(torch.rand(2, 1, 32, 32)).shape == (2, 10)


@pytest.mark.parametrize(
    ("name", "size", "count"),
    [
        ("convnet3", 32, 2048), ("convnet3", 28, 2048), ("convnet4", 64, 2048), ("convnet5", 128, 2048),
        ("resnetap10", 32, 512), ("resnetap10", 224, 512), ("resnet18", 32, 512), ("resnet18", 128, 512),
        ("alexnet", 32, 3072), ("alexnet", 28, 3072), ("alexnet", 16, 768), ("lenet", 28, 84), ("lenet", 224, 84), ("alexnet", 224, 3072), ("vgg11", 32, 512),
        ("vgg11", 224, 512), ("mlp", 32, 128), ("vit_tiny", 224, 192), ("vit_tiny", 16, 192),
    ],
)  # fmt: skip
def test_cardinality(name, size, count):
    network = made(name, size, device="meta")
    features = network.features(torch.empty(2, 3, size, size, device="meta"))
    assert features.shape == (2, count)
    assert network.feature_count == count
    assert network.classifier.in_features == count


@pytest.mark.parametrize(
    ("name", "size", "gflop"),
    [("convnet3", 32, 0.101), ("convnet5", 128, 1.718), ("resnetap10", 224, 3.642), ("vit_tiny", 224, 2.508)],
)
def test_cost(name, size, gflop):
    network = made(name, size, classes=1, device="meta")
    with FlopCounterMode(display=False) as counter:
        network.features(torch.empty(1, 3, size, size, device="meta"))
    assert counter.get_total_flops() / 1e9 == pytest.approx(gflop, rel=0.01)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [16, 28, 32, 64, 128, 224])
@pytest.mark.parametrize("name", EVALUATED)
def test_every_size_and_both_kinds_of_images(name, size, channels):
    network = made(name, size, channels=channels, device="meta")
    x = torch.empty(2, channels, size, size, device="meta")
    features = network.features(x)
    assert features.shape == (2, network.feature_count)
    assert network(x).shape == (2, 10)


@pytest.mark.parametrize(
    ("name", "millions"), [("vit_tiny", 5.53), ("vgg11", 9.23), ("alexnet", 1.87), ("mlp", 0.41), ("lenet", 0.062)]
)
def test_parameters(name, millions):
    """DeiT-Ti has 5.5 million without its classifier; the others follow from their layers."""
    network = made(name, 224 if name == "vit_tiny" else 32, device="meta")
    count = sum(parameter.numel() for parameter in network.parameters())
    assert count / 1e6 == pytest.approx(millions, rel=0.01)


def test_lenet_has_the_parameters_of_dc():
    """61,706 on grey images of 28 px."""
    network = made("lenet", 28, channels=1, device="meta")
    assert sum(parameter.numel() for parameter in network.parameters()) == 61_706


def test_vgg_leaves_no_norm_a_single_pixel():
    seen = []
    for size in (8, 16, 28, 32, 64):
        network = made("vgg11", size)
        assert isinstance(network, Vgg11)
        for norm in network.norms.children():
            norm.register_forward_hook(lambda _, given, out: seen.append(out.shape[-1]))
        network.features(torch.rand(1, 3, size, size))
    assert min(seen) == 2


@pytest.mark.parametrize(("size", "patch"), [(16, 2), (28, 4), (32, 4), (64, 8), (128, 16), (224, 16), (14, 2)])
def test_patches(size, patch):
    assert patch_side(size) == patch


def test_exception_an_odd_side_has_no_patches():
    with pytest.raises(ConfigError, match=r"vit_tiny needs an even number of pixels a side, given 17"):
        made("vit_tiny", 17)


def test_a_transformer_knows_where_a_patch_is():
    network, x = made("vit_tiny", 16), random(2, 3, 16, 16, dtype=torch.float32)
    assert isinstance(network, VitTiny)
    with torch.no_grad():
        network.tokens.positions.mul_(50)
        assert float((network.features(x) - network.features(x.flip(-2))).abs().max()) > 1e-3


def weights(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


def same(a, b):
    return {name: torch.equal(value, b[name]) for name, value in a.items()}


@pytest.mark.parametrize("name", ["convnet2", "resnetap10", "resnet18", "vgg11", "alexnet", "lenet", "mlp", "vit_tiny"])
def test_weights_follow_from_the_generator(name):
    one, other = weights(made(name, width=16)), weights(made(name, width=16, seed=1))
    assert all(same(one, weights(made(name, width=16))).values())
    drawn = [key for key in one if "norm" not in key]
    assert drawn
    assert not any(same(one, other)[key] for key in drawn)


@pytest.mark.parametrize("name", ["convnet2", "resnetap10", "resnet18", "vgg11", "alexnet", "lenet", "mlp", "vit_tiny"])
def test_initialising_in_place_equals_a_fresh_build(name):
    network = made(name, width=16, seed=1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1)
    network.reset_parameters(torch.Generator().manual_seed(7))
    assert all(same(weights(network), weights(made(name, width=16, seed=7))).values())


@pytest.mark.parametrize("name", EVALUATED)
def test_features_do_not_depend_on_the_rest_of_the_batch(name):
    network, x = made(name, 16, width=16), random(5, 3, 16, 16, dtype=torch.float32)
    with torch.no_grad():
        together = network.features(x)
        alone = torch.cat([network.features(x[i : i + 1]) for i in range(5)])
    assert_close(together, alone)
    assert network.training


def test_features_are_not_constant():
    for name in EVALUATED:
        with torch.no_grad():
            features = made(name, 16, width=16).features(random(4, 3, 16, 16, dtype=torch.float32))
        assert float(features.std(0).mean()) > 1e-3


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("convnet3", 7),
        ("convnet5", 16),
        ("resnetap10", 15),
        ("resnet18", 8),
        ("vgg11", 7),
        ("alexnet", 7),
        ("lenet", 15),
        ("vit_tiny", 12),
    ],
)
def test_exception_too_small_an_image(name, size):
    with pytest.raises(ConfigError, match=rf"{name}.*needs images of at least \d+ px, given {size}; use"):
        made(name, size)


def test_smallest_images_that_work():
    for name, size in (
        ("convnet3", 8),
        ("convnet5", 32),
        ("resnetap10", 16),
        ("resnet18", 16),
        ("vgg11", 8),
        ("alexnet", 8),
        ("lenet", 16),
        ("vit_tiny", 14),
        ("mlp", 1),
    ):
        with torch.no_grad():
            assert made(name, size, width=8).features(torch.rand(1, 3, size, size)).isfinite().all()


def test_exception_unknown_name():
    with pytest.raises(ConfigError, match=r"architecture: given 'resnet19', allowed: .* did you mean 'resnet18'"):
        made("resnet19")
    with pytest.raises(ConfigError, match=r"encoder\.name: given 'ConvNet3', .* did you mean 'convnet3'"):
        check_name("ConvNet3", "encoder.name")


def test_names_can_all_be_built():
    for name in names():
        assert made(name, 256, width=4, device="meta").feature_count > 0


def test_initial_spread():
    plain, residual = made("convnet2"), made("resnet18")
    bound = 1 / (128 * 9) ** 0.5
    weight = plain.state_dict()["convolutions.1.weight"]
    assert float(weight.abs().max()) <= bound
    assert float(weight.std()) == pytest.approx(bound / 3**0.5, rel=0.02)
    expected = (2 / (9 * 64)) ** 0.5
    assert float(residual.state_dict()["stages.0.first.weight"].std()) == pytest.approx(expected, rel=0.02)


def test_a_pooled_block_halves_by_averages():
    from m3d.encoders.resnet import Block

    block = Block(4, 8, halve=True, pooled=True)
    x = random(2, 4, 8, 8, dtype=torch.float32)
    inner = torch.relu(block.first_norm(block.first(x)))
    inner = block.second_norm(block.second(inner.unfold(2, 2, 2).unfold(3, 2, 2).mean((-1, -2))))
    assert block.shortcut is not None
    shortcut = block.shortcut_norm(block.shortcut(x).unfold(2, 2, 2).unfold(3, 2, 2).mean((-1, -2)))
    assert_close(block(x).detach(), torch.relu(inner + shortcut).detach(), torch.float32)
