"""Networks that are trained as one equal those that are trained one after another."""

from dataclasses import replace

import pytest
import torch

from m3d import Augment, Evaluate, Train, train, train_together, training_of, trials, trials_together
from tests.m3d.training.easy_problem import easy_training, held_out, recipe_of

SHORT = Train(epochs=2, batch=16, augment=Augment(strategy="color_crop_flip_scale_rotate"), cutmix_probability=0.5)


def each(images, seeds):
    return images.expand(len(seeds), -1, -1, -1, -1)


@pytest.mark.parametrize("architecture", ["convnet1", "mlp"])
@pytest.mark.parametrize("cutmix", [0.0, 0.5])
def test_the_same_weights_as_one_by_one(architecture, cutmix):
    images, labels = easy_training()
    config, seeds = replace(SHORT, cutmix_probability=cutmix), (0, 3, 5)
    together = train_together(recipe_of(config, architecture), each(images, seeds), labels, classes=2, seeds=seeds)
    for seed, network in zip(seeds, together, strict=True):
        alone = train(architecture, images, labels, classes=2, config=config, seed=seed)
        for name, value in alone.state_dict().items():
            torch.testing.assert_close(network.state_dict()[name], value, rtol=1e-3, atol=1e-4)
    assert not torch.equal(together[0].classifier.weight, together[1].classifier.weight)
    assert not together[0].training


@pytest.mark.parametrize("architecture", ["resnet18", "vgg11", "vit_tiny"])
def test_other_architectures_go_together(architecture):
    images = torch.rand(1, 4, 3, 16, 16, generator=torch.Generator().manual_seed(0)).expand(2, -1, -1, -1, -1)
    config = replace(SHORT, epochs=1, batch=4)
    together = train_together(recipe_of(config, architecture), images, torch.arange(4), classes=4, seeds=(0, 1))
    alone = train(architecture, images[1], torch.arange(4), classes=4, config=config, seed=1)
    for name, value in alone.state_dict().items():
        torch.testing.assert_close(together[1].state_dict()[name], value, rtol=1e-2, atol=1e-3)


def test_each_network_may_have_its_own_images():
    images, labels = easy_training()
    other = images.flip(-1) * 0.5
    together = train_together(recipe_of(SHORT), torch.stack([images, other]), labels, classes=2, seeds=(0, 0))
    alone = train("convnet1", other, labels, classes=2, config=SHORT, seed=0)
    torch.testing.assert_close(together[1].classifier.weight, alone.classifier.weight, rtol=1e-3, atol=1e-4)
    assert not torch.allclose(together[0].classifier.weight, together[1].classifier.weight, atol=1e-4)


def test_accuracies_agree_within_the_spread():
    images, labels = easy_training()
    recipe, seeds = recipe_of(replace(training_of(Evaluate(epochs=4)), batch=16)), range(6)
    alone = [score.accuracy for _, score in trials(recipe, images, labels, held_out(), seeds=seeds)]

    def scores():
        scored = trials_together(recipe, each(images, seeds), labels, held_out(), seeds=seeds)
        return [score.accuracy for _, score in scored]

    together = scores()
    spread = torch.tensor(alone).std()
    assert abs(sum(alone) - sum(together)) / 6 <= max(2.5, float(spread))
    assert together == pytest.approx(alone, abs=5.1)  # rounding may change two of 40 predictions
    assert together == scores()
