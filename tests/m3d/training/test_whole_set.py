"""Training on the full set: batches, rates, parts of several workers, and resuming."""

import math

import pytest
import torch

from m3d import Augment, ConfigError, RowImages, ShapeError, WholeSetTrainer, WholeTrain
from m3d.training import row_images
from m3d.training.snapshot import weights_of
from m3d.training.whole_set import Part, rate_at
from tests.helpers import MEAN, STD, images_of


def rule(**changes: object) -> WholeTrain:
    settings = {"epochs": 3, "batch": 16, "learning_rate": 0.05, **changes}
    return WholeTrain(**settings)  # pyright: ignore[reportArgumentType]


def row_images_of(classes: list[torch.Tensor]) -> RowImages:
    return RowImages(classes, mean=MEAN, std=STD)


def rows(count: int = 20) -> RowImages:
    return row_images_of([images_of(i, count + i) for i in range(3)])


def trainer(*, part: Part | None = None, **changes: object) -> WholeSetTrainer:
    return WholeSetTrainer("convnet2", rows(), config=rule(**changes), part=part)


def test_rows_are_the_classes_one_after_another(monkeypatch: pytest.MonkeyPatch) -> None:
    classes = [images_of(i, 4 + i) for i in range(3)]
    whole, wanted = torch.cat(classes), torch.tensor([14, 0, 4, 3, 9, 4])
    copied = row_images_of(classes)
    monkeypatch.setattr(row_images, "COPIED_BYTES", 0)
    mapped = row_images_of(classes)
    assert len(mapped._parts) == 3
    for images in (copied, mapped):
        assert len(images) == 15
        assert torch.equal(images.take(wanted), whole[wanted])
        assert images.labels.tolist() == [0] * 4 + [1] * 5 + [2] * 6


@pytest.mark.parametrize("count", [1, 2, 5, 128])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_parts_are_complete_and_even(count: int, world: int) -> None:
    slices = [list(range(count))[Part(rank=rank, world=world).of(count)] for rank in range(world)]
    assert [row for part in slices for row in part] == list(range(count))
    assert max(map(len, slices)) - min(map(len, slices)) <= 1


def test_cosine_rises_then_falls_to_zero() -> None:
    config = rule(warmup=0.2)
    rates = [rate_at(config, step, 50) for step in range(50)]
    assert rates[:10] == pytest.approx([0.05 * (step + 1) / 11 for step in range(10)])
    assert rates[10] == 0.05
    assert rates[30] == pytest.approx(0.025)
    assert 0 < rates[-1] < 1e-4
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_steps() -> None:
    config = rule(schedule="steps", warmup=0.0)
    rates = [rate_at(config, step, 80) for step in (0, 39, 40, 59, 60, 69, 70, 79)]
    assert rates == pytest.approx([0.05, 0.05, 0.01, 0.01, 0.002, 0.002, 0.0004, 0.0004])


@pytest.mark.parametrize("world", [2, 3])
def test_the_mean_of_the_parts_gradients_is_that_of_the_complete_batch(world: int) -> None:
    whole = trainer()
    (batch, *_) = whole._batches(1)
    whole._step(1, batch)
    expected = [parameter.grad for parameter in whole.network.parameters()]
    totals = [torch.zeros_like(gradient) for gradient in expected if gradient is not None]
    for rank in range(world):
        one = trainer(part=Part(rank=rank, world=world))
        (mine, *_) = one._batches(1)
        one._step(1, mine)
        for total, parameter in zip(totals, one.network.parameters(), strict=True):
            assert parameter.grad is not None
            total += parameter.grad / world
    for total, gradient in zip(totals, expected, strict=True):
        torch.testing.assert_close(total, gradient, rtol=1e-3, atol=1e-5)


def test_every_epoch_has_an_order_and_an_augmentation_of_its_own() -> None:
    made = trainer()
    assert made.steps == 3  # 63 images
    first, again, other = (torch.cat(list(made._batches(epoch))) for epoch in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert len(first.unique()) == 48
    chosen = torch.arange(8)
    assert torch.equal(made._augmented(chosen, 0), made._augmented(chosen, 0))
    assert not torch.equal(made._augmented(chosen, 0), made._augmented(chosen, 1))
    # An image's augmentation does not depend on the rest of the batch.
    assert torch.equal(made._augmented(chosen, 0)[3:], made._augmented(chosen[3:], 0))


def test_a_restored_training_equals_an_uninterrupted_one() -> None:
    straight = trainer()
    straight.start(4)
    losses = [straight.epoch(epoch) for epoch in range(3)]
    begun = trainer()
    begun.start(4)
    begun.epoch(0)
    stored = begun.tensors()
    other = trainer()
    other.restore(4, stored)
    assert [other.epoch(epoch) for epoch in (1, 2)] == losses[1:]
    for name, value in straight.tensors().items():
        assert torch.equal(value, other.tensors()[name]), name
    weights = set(straight.network.state_dict())
    assert set(weights_of(stored)) == weights
    assert set(stored) == {f"{kind}.{name}" for kind in ("weights", "momentum") for name in weights}


def test_it_learns_and_seeds_differ() -> None:
    made = trainer(epochs=8, augment=Augment(strategy="crop"))
    made.start(0)
    losses = [made.epoch(epoch) for epoch in range(8)]
    assert losses[0] > 0.6
    assert losses[-1] < 0.3 * losses[0]
    other = trainer(epochs=8)
    other.start(1)
    assert other.epoch(0) != losses[0]


def test_a_loss_is_the_mean_over_the_images() -> None:
    made = trainer(learning_rate=1e-12, augment=Augment(strategy="none"), momentum=0.0, weight_decay=0.0)
    assert made.epoch(0) == pytest.approx(math.log(3), rel=0.2)


def test_refusals() -> None:
    with pytest.raises(ConfigError, match=r"workers: 17 workers for batches of 16"):
        trainer(part=Part(rank=0, world=17))
    with pytest.raises(ConfigError, match="architecture"):
        WholeSetTrainer("convnet0", rows(), config=rule())
    wide = row_images_of([torch.zeros(2, 3, 8, 12, dtype=torch.uint8)])
    with pytest.raises(ShapeError):
        WholeSetTrainer("convnet1", wide, config=rule())
    with pytest.raises(ShapeError):
        row_images_of([images_of(0, 2), images_of(1, 2, size=10)])
