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
def test_a_resumed_training_equals_an_uninterrupted_one(stop):
    images, labels = easy_training()
    config = replace(QUIET, epochs=12, cutmix_probability=0.5, augment=Augment())
    whole = train("convnet1", images, labels, classes=2, config=config, seed=3).state_dict()

    class Interrupted(Exception):
        pass

    stored = []

    def keep(epoch, tensors):
        if epoch == stop:
            stored.append((epoch, tensors()))
            raise Interrupted

    interrupted = Trainer("convnet1", images.shape[1:], classes=2)
    with pytest.raises(Interrupted):
        interrupted.train(images, labels, config=config, seed=3, keep=keep)
    other = Trainer("convnet1", images.shape[1:], classes=2)
    other.train(images, labels, config=replace(config, epochs=1), seed=9)  # another training in between
    resumed = other.train(images, labels, config=config, seed=3, begin=stored[0]).state_dict()
    assert all(torch.equal(resumed[name], value) for name, value in whole.items())


def test_names_of_the_stored_tensors():
    images, labels = easy_training()
    stored = []
    network = Trainer("convnet1", images.shape[1:], classes=2).train(
        images, labels, config=replace(QUIET, epochs=1), seed=0, keep=lambda epoch, tensors: stored.append(tensors())
    )
    names = dict(network.named_parameters())
    assert set(stored[0]) == {"random", *(f"{kind}.{name}" for kind in ("weight", "momentum") for name in names)}
