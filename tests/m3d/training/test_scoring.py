"""Scores of trained networks: accuracy, confusion, the best epoch, and resuming between networks."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from m3d import Augment, TestSet, accuracy, confusion, train_and_score, trials
from m3d.encoders import Network
from m3d.training import scoring
from tests.helpers import MEAN, STD, assert_close
from tests.m3d.training.easy_problem import QUIET, easy_training, held_out, recipe_of


@pytest.mark.parametrize("cutmix", [0.0, 0.5])
def test_learns_an_easy_problem(cutmix):
    config = replace(QUIET, cutmix_probability=cutmix, augment=Augment(strategy="color_crop"))
    scores = dict(train_and_score(recipe_of(config), *easy_training(), held_out(), seeds=range(2)))
    assert list(scores) == [0, 1]
    assert min(scores.values()) >= 95


class Reader(Network):
    """Answers with the class that the first pixel holds, after undoing the normalisation."""

    def __init__(self):
        super().__init__()
        self.classifier = torch.nn.Linear(1, 1)

    def forward(self, x):
        value = (x[:, 1, 0, 0] * STD[1] + MEAN[1]) * 255
        return F.one_hot(value.round().long(), 5).float()


@pytest.mark.parametrize("wrong", [0, 1, 137, 300])
def test_accuracy_counts_right(wrong):
    labels = torch.arange(300) % 5
    images = torch.randint(0, 256, (300, 3, 32, 32), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    images[:, 1, 0, 0] = labels.to(torch.uint8)
    images[300 - wrong :, 1, 0, 0] = ((labels[300 - wrong :] + 1) % 5).to(torch.uint8)
    test = TestSet(images=images, labels=labels, mean=MEAN, std=STD, classes=5)
    assert accuracy(Reader(), test) == pytest.approx(100 * (300 - wrong) / 300)


def test_confusion_counts_by_class():
    images = torch.zeros((6, 3, 4, 4), dtype=torch.uint8)
    images[:, 1, 0, 0] = torch.tensor([0, 1, 1, 2, 4, 4], dtype=torch.uint8)
    test = TestSet(images=images, labels=torch.tensor([0, 0, 1, 2, 2, 4]), mean=MEAN, std=STD, classes=5)
    result = confusion(Reader(), test)
    expected = torch.zeros(5, 5, dtype=torch.int64)
    for label, taken in ((0, 0), (0, 1), (1, 1), (2, 2), (2, 4), (4, 4)):
        expected[label, taken] += 1
    assert torch.equal(result, expected)
    assert accuracy(Reader(), test) == pytest.approx(100 * 4 / 6)


def test_networks_are_scored_on_images_normalised_like_those_they_were_trained_on():
    seen = []

    class Spy(Network):
        def __init__(self):
            super().__init__()
            self.classifier = torch.nn.Linear(1, 2)

        def features(self, x):
            seen.append(x)
            return x.flatten(1)

    images = torch.tensor([0, 51, 255], dtype=torch.uint8).view(3, 1, 1, 1)
    test = TestSet(images=images, labels=torch.zeros(3, dtype=torch.int64), mean=(0.2,), std=(0.5,), classes=2)
    accuracy(Spy(), test)
    assert_close(seen[0].flatten(), torch.tensor([-0.4, 0.0, 1.6]))


def test_measuring_the_best_epoch_changes_nothing():
    config = replace(QUIET, epochs=7, cutmix_probability=0.5, augment=Augment())
    plain, looked = (
        dict(trials(recipe_of(config), *easy_training(), held_out(), seeds=(0, 1), best_epoch=every))
        for every in (0, 3)
    )
    for seed in (0, 1):
        assert torch.equal(plain[seed].confusion, looked[seed].confusion)
        assert plain[seed].best_accuracy is None
        assert (looked[seed].best_accuracy or 0) >= looked[seed].accuracy


def test_the_best_epoch_is_the_best_that_was_measured(monkeypatch):
    accuracies = iter([60.0, 80.0, 10.0])
    monkeypatch.setattr(scoring, "accuracy", lambda *_, **__: next(accuracies))
    config = replace(QUIET, epochs=3)
    ((_, score),) = trials(recipe_of(config), *easy_training(), held_out(), seeds=(0,), best_epoch=1)
    assert score.best_accuracy == max(80.0, score.accuracy)


def test_measured_accuracies_are_stored_with_the_network(monkeypatch):
    class Once:
        """Stores the network after the fourth epoch and interrupts the first training there."""

        stored: tuple[int, dict[str, torch.Tensor]] | None = None

        def load(self, seed):
            return self.stored

        def keep(self, seed, epoch, tensors):
            if epoch == 4 and self.stored is None:
                self.stored = (epoch, tensors())
                raise KeyboardInterrupt

        def finished(self, seed):
            pass

    looked = []
    accuracies = {2: 101.0, 4: 102.0, 6: 5.0}
    monkeypatch.setattr(scoring, "accuracy", lambda *_, **__: accuracies[looked.append(1) or 2 * len(looked)])
    config, keeper = replace(QUIET, epochs=7), Once()

    def score():
        ((_, result),) = trials(
            recipe_of(config), *easy_training(), held_out(), seeds=(0,), best_epoch=2, keeper=keeper
        )
        return result

    with pytest.raises(KeyboardInterrupt):
        score()
    assert score().best_accuracy == 102.0  # measured at the stored epoch, before the interruption
    assert len(looked) == 3
