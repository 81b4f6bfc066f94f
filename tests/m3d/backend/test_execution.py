"""What a step is computed with follows from settings, hardware and total work."""

from dataclasses import replace

import pytest
import torch

from m3d import Condense, ConfigError, Encoder, Evaluate, Method, training_of
from m3d.backend.cost import forward_flops, kept_numbers
from m3d.backend.execution import Execution, choose, compiles, flops_per_class, training_flops

CPU = torch.device("cpu")
CIFAR = (3, 32, 32)


def chosen(classes=10, shape=CIFAR, encoder="convnet3", threads=2, **settings):
    return choose(
        Method(condense=Condense(**settings), encoder=Encoder(name=encoder)),
        shape=shape,
        classes=classes,
        device=CPU,
        threads=threads,
    )


@pytest.fixture
def compiler(monkeypatch):
    monkeypatch.setattr("m3d.backend.compiler.missing", lambda device: None)


@pytest.fixture
def no_compiler(monkeypatch):
    monkeypatch.setattr("m3d.backend.compiler.missing", lambda device: "C++ compiler")


def test_forward_flops_of_a_convnet_by_hand():
    layers = [(3, 32), (128, 16), (128, 8)]
    by_hand = sum(2 * 9 * entering * 128 * side**2 for entering, side in layers)
    assert forward_flops(Encoder(), 3, 32) == by_hand
    assert flops_per_class(Method(condense=Condense(images_per_class=10)), CIFAR) == (128 + 2 * 40) * by_hand


def test_kept_numbers_of_a_convnet():
    # At the least what enters the norms, the ReLUs and the pools: three maps of every block.
    maps = sum(128 * side**2 for side in (32, 16, 8))
    assert 2 * maps < kept_numbers(Encoder(), 3, 32) < 5 * maps


@pytest.mark.parametrize(("iterations", "compiled"), [(60, False), (10_000, True)])
def test_a_compiler_must_pay(compiler, iterations, compiled):
    assert chosen(iterations=iterations).compiled is compiled


def test_more_threads_and_fewer_classes_make_compiling_pay_less(compiler):
    about = 180  # iterations where it just pays with two threads and ten classes
    assert chosen(iterations=about).compiled
    assert not chosen(iterations=about, threads=8).compiled
    assert not chosen(iterations=about, classes=2).compiled


def test_settings_win(compiler):
    assert chosen(iterations=1, compile="on").compiled
    assert not chosen(iterations=10**6, compile="off").compiled
    made = chosen(block=7)
    assert (made.real_block, made.synthetic_block) == (7, 7)
    assert chosen(precision="float32").precision == "float32"


def test_without_a_compiler(no_compiler):
    made = chosen()
    assert not made.compiled
    assert made.note == "not compiled, so several times slower: this machine has no C++ compiler"
    assert not chosen(iterations=60).note
    with pytest.raises(ConfigError, match=r"condense\.compile: needs a compiler, .* no C\+\+ compiler; .*=off"):
        chosen(compile="on")


@pytest.mark.parametrize(("side", "real", "synthetic"), [(16, 256, 160), (32, 64, 40), (128, 4, 4), (224, 4, 2)])
def test_blocks_on_a_cpu_fit_the_cache(compiler, side, real, synthetic):
    made = chosen(shape=(3, side, side), encoder="convnet3", compile="on")
    assert (made.real_block, made.synthetic_block) == (real, synthetic)
    eager = chosen(shape=(3, side, side), encoder="convnet3", compile="off")
    assert eager.real_block == eager.synthetic_block == max(1, 2**14 // side**2)


def test_halved_down_to_one():
    made = Execution(precision="float32", compiled=True, real_block=5, synthetic_block=2)
    assert made.halved() == replace(made, real_block=2, synthetic_block=1)
    assert made.halved().halved() == replace(made, real_block=1, synthetic_block=1)
    with pytest.raises(ConfigError, match=r"condense\.block"):
        made.halved().halved().halved()


def test_round_trip_leaves_the_note():
    made = Execution(precision="float32", compiled=True, real_block=5, synthetic_block=2, note="why")
    assert Execution.from_dict(made.as_dict()) == replace(made, note="")


def test_evaluation_compiles_where_it_pays(compiler):
    training = training_of(Evaluate(epochs=1000))
    work = training_flops(training.epochs, "convnet3", 400, CIFAR)
    assert work == 3 * 1000 * 400 * forward_flops(Encoder(), 3, 32)
    assert compiles("auto", work, CPU, 2, key="evaluate.compile") == (True, "")
    assert compiles("auto", work // 1000, CPU, 2, key="evaluate.compile") == (False, "")
