"""Signs of life: where loops beat, who hears them, and that nobody pays for them."""

import threading

import torch

from m3d import Recipe, TestSet, Train, condense, train_and_score
from m3d.pulse import beat, listening


class Listener:
    """Counts beats."""

    def __init__(self) -> None:
        self.beats = 0

    def __call__(self) -> None:
        self.beats += 1


def test_beats_are_heard_in_the_block_and_in_its_thread_only() -> None:
    outer, inner = Listener(), Listener()
    beat()
    with listening(outer):
        beat()
        with listening(inner):
            beat()
            thread = threading.Thread(target=beat)
            thread.start()
            thread.join()
        beat()
    beat()
    assert (outer.beats, inner.beats) == (2, 1)


def test_training_beats_with_every_batch_and_scoring_with_every_block() -> None:
    images, labels = torch.zeros(12, 1, 8, 8), torch.arange(12) % 2
    test = TestSet(images=images.to(torch.uint8), labels=labels, mean=(0.5,), std=(0.5,), classes=2)
    recipe = Recipe(architecture="convnet1", training=Train(epochs=3, batch=4))
    listener = Listener()
    with listening(listener):
        dict(train_and_score(recipe, images, labels, test, seeds=range(2)))
    assert listener.beats >= 2 * (3 * 3 + 1)


def test_condensing_beats_with_every_iteration() -> None:
    images, labels = torch.zeros(12, 1, 8, 8, dtype=torch.uint8), torch.arange(12) % 2
    listener = Listener()
    with listening(listener):
        condense(images, labels, iterations=5, images_per_class=1, factor=1, batch_real=4)
    assert listener.beats >= 5
