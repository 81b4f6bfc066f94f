"""Training and scoring one network, and the protocols."""

import importlib
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from m3d import (
    Augment,
    Evaluate,
    TestSet,
    Train,
    Trainer,
    accuracy,
    confusion,
    imagenet_epochs,
    train,
    train_and_score,
    training_of,
    trials,
)
from m3d.encoders import Network
from m3d.seeding import generator
from m3d.training.trainer import _box, _loss
from tests.helpers import MEAN, STD, assert_close

QUIET = Train(epochs=15, batch=16, augment=Augment(strategy="none"))


def easy(count=40, seed=0):
    """Two classes: bright above or bright below."""
    labels = torch.arange(count) % 2
    images = torch.full((count, 3, 8, 8), 60.0) + 40 * torch.rand(
        count, 3, 8, 8, generator=torch.Generator().manual_seed(seed)
    )
    images[labels == 0, :, :4] += 120
    images[labels == 1, :, 4:] += 120
    return images.to(torch.uint8), labels


def held_out(count=40):
    images, labels = easy(count, seed=1)
    return TestSet(images=images, labels=labels, mean=(0.5,) * 3, std=(0.25,) * 3, classes=2)


def easy_training():
    images, labels = easy()
    return (images.float() / 255 - 0.5) / 0.25, labels


@pytest.mark.parametrize("cutmix", [0.0, 0.5])
def test_learns_an_easy_problem(cutmix):
    config = replace(QUIET, cutmix_probability=cutmix, augment=Augment(strategy="color_crop"))
    scores = dict(train_and_score("convnet1", *easy_training(), held_out(), config=config, seeds=range(2)))
    assert list(scores) == [0, 1]
    assert min(scores.values()) >= 95


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
    module = importlib.import_module("m3d.training.trainer")  # the attribute of that name is the function
    monkeypatch.setattr(module, "_loss", lambda network, batch, *_: (batches.append(batch), network(batch).sum())[1])
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


class Spy(Network):
    """Keeps what it is shown, and answers with fixed logits."""

    def __init__(self, logits):
        super().__init__()
        self.logits, self.seen = logits, []
        self.classifier = torch.nn.Linear(1, 1)

    def forward(self, x):
        self.seen.append(x)
        return self.logits


def test_cutmix_shares():
    """Image i holds the value i: the pixels of a mixed image tell its partner and the partner's share."""
    count, logits = 6, torch.randn(6, 6, generator=torch.Generator().manual_seed(0))
    batch = torch.arange(6.0).view(6, 1, 1, 1).expand(6, 3, 8, 10).contiguous()
    labels, shares = torch.arange(6), []
    for seed in range(30):
        spy = Spy(logits)
        loss = _loss(spy, batch, labels, replace(QUIET, cutmix_probability=1.0), generator(seed, "test"))
        mixed, expected, partners = spy.seen[0], 0.0, []
        area = max(float((mixed[i] != i).float().mean()) for i in range(count))
        for i in range(count):
            others = mixed[i][mixed[i] != i].unique().tolist()
            partner = int(others[0]) if others else i
            assert len(others) <= 1
            assert not others or float((mixed[i] != i).float().mean()) == pytest.approx(area)
            partners.append(partner)
            one, two = (F.cross_entropy(logits[i], torch.tensor(label)) for label in (i, partner))
            expected += float((1 - area) * one + area * two) / count
        assert area == 0 or sorted(partners) == list(range(count))
        assert float(loss) == pytest.approx(expected, rel=1e-5)
        shares.append(area)
    assert len(set(shares)) > 10
    assert max(shares) > 0.4
    assert torch.equal(batch[:, 0, 0, 0], torch.arange(6.0))  # the batch itself is left as it was


@pytest.mark.parametrize("probability", [0.0, 0.25, 1.0])
def test_cutmix_probability(probability):
    batch = torch.arange(6.0).view(6, 1, 1, 1).expand(6, 3, 32, 32).contiguous()
    config, random = replace(QUIET, cutmix_probability=probability), generator(0, "test")
    spy = Spy(torch.zeros(6, 6))
    for _ in range(300):
        _loss(spy, batch, torch.arange(6), config, random)
    changed = sum(not torch.equal(seen, batch) for seen in spy.seen) / 300
    assert changed == pytest.approx(probability, abs=0.07)


def test_box_area_is_beta_distributed():
    random = generator(0, "test")
    boxes = [_box(224, 224, 1.0, random) for _ in range(2000)]
    assert all(0 <= top <= bottom <= 224 and 0 <= left <= right <= 224 for top, bottom, left, right in boxes)
    inner = [(b - t) * (r - x) / 224**2 for t, b, x, r in boxes if t > 0 and x > 0 and b < 224 and r < 224]
    assert max(inner) > 0.3
    areas = torch.tensor([(b - t) * (r - x) / 224**2 for t, b, x, r in boxes])
    # E[area] with uniform centre and side s, clipped: E[(s - s^2 / 4)^2] with s^2 uniform is 1/2 - 1/5 + 1/48.
    assert float(areas.mean()) == pytest.approx(1 / 2 - 1 / 5 + 1 / 48, abs=0.015)


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


def test_protocol_idc():
    config = training_of(Evaluate(protocol="idc"))
    assert (config.epochs, config.batch, config.learning_rate, config.momentum) == (1000, 64, 0.01, 0.9)
    assert (config.weight_decay, config.milestones, config.decay) == (5e-4, (2 / 3, 5 / 6), 0.2)
    assert (config.cutmix_probability, config.cutmix_beta, config.augment.pick) == (0.5, 1.0, "geometric")
    assert set(config.augment.operations) == {"color", "crop", "flip", "scale", "rotate"}
    assert (config.augment.scale_ratio, config.augment.rotate_degrees) == (1.2, 15.0)


def test_protocol_dm():
    config = training_of(Evaluate(protocol="dm"))
    assert (config.epochs, config.batch, config.learning_rate) == (1000, 256, 0.01)
    assert (config.milestones, config.decay, config.cutmix_probability) == ((0.5,), 0.1, 0.0)
    assert "cutout" in config.augment.operations


def test_protocol_with_epochs_and_without_flip():
    config = training_of(Evaluate(epochs=30, flip=False))
    assert config.epochs == 30
    assert set(config.augment.operations) == {"color", "crop", "scale", "rotate"}


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


@pytest.mark.parametrize(
    ("views", "classes", "epochs"),
    [(1, 10, 3000), (9, 10, 2000), (40, 10, 1500), (90, 10, 1000), (180, 100, 667), (450, 10, 500), (1000, 10, 300)],
)
def test_epochs_of_idc_on_imagenet(views: int, classes: int, epochs: int) -> None:
    assert imagenet_epochs(views, classes) == epochs


def test_confusion_counts_by_class():
    images = torch.zeros((6, 3, 4, 4), dtype=torch.uint8)
    images[:, 1, 0, 0] = torch.tensor([0, 1, 1, 2, 4, 4], dtype=torch.uint8)
    test = TestSet(images=images, labels=torch.tensor([0, 0, 1, 2, 2, 4]), mean=MEAN, std=STD, classes=5)
    found = confusion(Reader(), test)
    expected = torch.zeros(5, 5, dtype=torch.int64)
    for label, taken in ((0, 0), (0, 1), (1, 1), (2, 2), (2, 4), (4, 4)):
        expected[label, taken] += 1
    assert torch.equal(found, expected)
    assert accuracy(Reader(), test) == pytest.approx(100 * 4 / 6)


def test_looking_for_the_best_epoch_changes_nothing():
    config = replace(QUIET, epochs=7, cutmix_probability=0.5, augment=Augment())
    plain, looked = (
        dict(trials("convnet1", *easy_training(), held_out(), config=config, seeds=(0, 1), best_epoch=every))
        for every in (0, 3)
    )
    for seed in (0, 1):
        assert torch.equal(plain[seed].confusion, looked[seed].confusion)
        assert plain[seed].best_accuracy is None
        assert (looked[seed].best_accuracy or 0) >= looked[seed].accuracy


def test_the_best_epoch_is_the_best_that_was_looked_at(monkeypatch):
    module = importlib.import_module("m3d.training.scoring")
    told = iter([60.0, 80.0, 10.0])
    monkeypatch.setattr(module, "accuracy", lambda *_, **__: next(told))
    config = replace(QUIET, epochs=3)
    ((_, score),) = trials("convnet1", *easy_training(), held_out(), config=config, seeds=(0,), best_epoch=1)
    assert score.best_accuracy == max(80.0, score.accuracy)


def test_what_was_looked_at_is_kept_with_the_network(monkeypatch):
    class Once:
        """Is interrupted after the fourth epoch."""

        held: tuple[int, dict[str, torch.Tensor]] | None = None

        def load(self, seed):
            return self.held

        def keep(self, seed, epoch, tensors):
            if epoch == 4 and self.held is None:
                self.held = (epoch, tensors())
                raise KeyboardInterrupt

        def finished(self, seed):
            pass

    module, looked = importlib.import_module("m3d.training.scoring"), []
    told = {2: 101.0, 4: 102.0, 6: 5.0}
    monkeypatch.setattr(module, "accuracy", lambda *_, **__: told[looked.append(1) or 2 * len(looked)])
    config, keeper = replace(QUIET, epochs=7), Once()

    def score():
        ((_, found),) = trials(
            "convnet1", *easy_training(), held_out(), config=config, seeds=(0,), best_epoch=2, keeper=keeper
        )
        return found

    with pytest.raises(KeyboardInterrupt):
        score()
    assert score().best_accuracy == 102.0  # of the epoch that was kept, looked at before
    assert len(looked) == 3


def test_protocol_imagenet():
    config = training_of(Evaluate(protocol="imagenet"))
    assert (config.cutmix_probability, config.batch, config.learning_rate) == (1.0, 64, 0.01)
    large = training_of(Evaluate(protocol="imagenet100"))
    assert (large.epochs, large.batch, large.learning_rate, large.weight_decay) == (667, 128, 0.1, 1e-4)
    assert [imagenet_epochs(n, 10) for n in (1, 4, 40, 90, 500, 900)] == [3000, 2000, 1500, 1000, 500, 300]
    assert imagenet_epochs(40, 100) == 1000


def test_protocol_without_augmentation():
    config = training_of(Evaluate(augment="none"))
    assert config.augment.operations == ()
    assert config.cutmix_probability == 0
    assert config.epochs == 1000


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

    trainer = Trainer("convnet1", images.shape[1:], classes=2)
    with pytest.raises(Interrupted):
        trainer.train(images, labels, config=config, seed=3, keep=keep)
    other = Trainer("convnet1", images.shape[1:], classes=2)
    other.train(images, labels, config=replace(config, epochs=1), seed=9)  # used before
    gone_on = other.train(images, labels, config=config, seed=3, begin=held[0]).state_dict()
    assert all(torch.equal(gone_on[name], value) for name, value in whole.items())
