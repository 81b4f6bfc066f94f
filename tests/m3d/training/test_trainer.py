"""Training one network: seeds, schedule, order, augmentation, and resuming."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from m3d import Augment, Trainer, accuracy, train
from m3d.training import trainer
from tests.m3d.training.easy_problem import QUIET, easy_training, held_out


def test_same_seed_same_network():
    images, labels = easy_training()
    config = replace(QUIET, epochs=2, cutmix_probability=0.5, augment=Augment())
    one, same, other = (
        train("convnet1", images, labels, classes=2, config=config, seed=s).state_dict() for s in (0, 0, 1)
    )
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert not torch.equal(one["classifier.weight"], other["classifier.weight"])
    assert accuracy(train("convnet1", images, labels, classes=2, config=config, seed=0), held_out()) == accuracy(
        train("convnet1", images, labels, classes=2, config=config, seed=0), held_out()
    )


def test_network_comes_back_in_evaluation_mode():
    images, labels = easy_training()
    assert not train("convnet1", images, labels, classes=2, config=replace(QUIET, epochs=1), seed=0).training


def test_optimiser_and_schedule(monkeypatch):
    steps = []

    class Recorder(torch.optim.SGD):
        def step(self, closure=None):
            group = self.param_groups[0]
            steps.append((round(group["lr"], 8), group["momentum"], group["weight_decay"]))
            return super().step(closure)

    monkeypatch.setattr(torch.optim, "SGD", Recorder)
    images, labels = easy_training()
    train("convnet1", images, labels, classes=2, config=replace(QUIET, epochs=12), seed=0)
    per_epoch = 3  # 40 images in batches of 16
    expected = [0.01] * 8 + [0.002] * 2 + [0.0004] * 2
    assert [rate for rate, _, _ in steps] == [rate for rate in expected for _ in range(per_epoch)]
    assert {(momentum, decay) for _, momentum, decay in steps} == {(0.9, 5e-4)}
    steps.clear()
    train(
        "convnet1",
        images,
        labels,
        classes=2,
        config=replace(QUIET, epochs=7, milestones=(0.5,), decay=0.1, batch=40),
        seed=0,
    )
    assert [rate for rate, _, _ in steps] == [0.01] * 3 + [0.001] * 4


def test_every_image_once_an_epoch(monkeypatch):
    seen, real = [], F.cross_entropy
    monkeypatch.setattr(F, "cross_entropy", lambda logits, labels: (seen.append(labels), real(logits, labels))[1])
    images, _ = easy_training()
    train("convnet1", images, torch.arange(40), classes=40, config=replace(QUIET, epochs=2), seed=0)
    assert [len(labels) for labels in seen] == [16, 16, 8] * 2
    epochs = torch.cat(seen[:3]).tolist(), torch.cat(seen[3:]).tolist()
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(40))
    assert epochs[0] != epochs[1]


def test_augmentation_differs_from_image_to_image(monkeypatch):
    batches = []
    monkeypatch.setattr(trainer, "_loss", lambda network, batch, *_: (batches.append(batch), network(batch).sum())[1])
    images = torch.rand(1, 3, 8, 8).expand(16, -1, -1, -1)
    train(
        "convnet1",
        images,
        torch.zeros(16).long(),
        classes=2,
        config=replace(QUIET, epochs=1, augment=Augment()),
        seed=0,
    )
    assert len(batches[0].flatten(1).unique(dim=0)) == 16


@pytest.mark.parametrize("stop", [1, 4, 8, 10])
def test_a_training_that_goes_on_is_the_one_that_was_never_interrupted(stop):
    images, labels = easy_training()
    config = replace(QUIET, epochs=12, cutmix_probability=0.5, augment=Augment())
    whole = train("convnet1", images, labels, classes=2, config=config, seed=3).state_dict()

    class Interrupted(Exception):
        pass

    held = []

    def keep(epoch, tensors):
        if epoch == stop:
            held.append((epoch, tensors()))
            raise Interrupted

    interrupted = Trainer("convnet1", images.shape[1:], classes=2)
    with pytest.raises(Interrupted):
        interrupted.train(images, labels, config=config, seed=3, keep=keep)
    other = Trainer("convnet1", images.shape[1:], classes=2)
    other.train(images, labels, config=replace(config, epochs=1), seed=9)  # used before
    gone_on = other.train(images, labels, config=config, seed=3, begin=held[0]).state_dict()
    assert all(torch.equal(gone_on[name], value) for name, value in whole.items())
