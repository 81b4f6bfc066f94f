"""Placement: groups, and what an actor takes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.parsing import with_settings
from pipeline.config.run_config import RunConfig
from pipeline.errors import UserError
from pipeline.runtime.placement import (
    ACTIVATION_BYTES,
    MEMORY_SHARE,
    Node,
    capacity,
    does_not_fit,
    fits,
    fitting_classes,
    place,
    smallest_gpu,
    stored_placement,
)

LAPTOP = [Node(cpus=2, gpus=0, memory=16e9)]
GPUS = [Node(cpus=16, gpus=4, memory=400e9), Node(cpus=16, gpus=4, memory=400e9)]


def config(*settings: str) -> RunConfig:
    return with_settings(RunConfig(), settings)


def test_the_default_without_gpus() -> None:
    placement = place(config(), LAPTOP, 10)
    assert (placement.actors, placement.cpus_per_actor, placement.gpus_per_actor, placement.threads) == (2, 1, 0, 1)
    assert placement.groups == (tuple(range(5)), tuple(range(5, 10)))


def test_one_actor_per_gpu() -> None:
    placement = place(config(), GPUS, 100)
    assert (placement.actors, placement.cpus_per_actor, placement.gpus_per_actor) == (8, 4, 1)
    assert sorted(len(group) for group in placement.groups) == [12] * 4 + [13] * 4


def test_fractions_of_a_gpu() -> None:
    placement = place(config("resources.gpus_per_actor=0.5"), GPUS, 100)
    assert (placement.actors, placement.cpus_per_actor, placement.gpus_per_actor) == (16, 2, 0.5)


def test_many_cpus_and_few_classes_give_more_threads() -> None:
    placement = place(config(), [Node(cpus=64, gpus=0, memory=256e9)], 4)
    assert (placement.actors, placement.cpus_per_actor, placement.threads) == (4, 16, 16)


def test_every_class_is_in_exactly_one_group() -> None:
    for size in (1, 3, 7, 10, 20):
        placement = place(config(f"resources.classes_per_group={size}"), GPUS, 10)
        assert sorted(label for group in placement.groups for label in group) == list(range(10))
        assert max(len(group) for group in placement.groups) <= size
        assert placement.actors <= len(placement.groups)


def test_memory_bounds_the_group() -> None:
    small = [Node(cpus=2, gpus=0, memory=2e9)]
    large = config("condense.images_per_class=50", "data.image_size=64")
    assert max(len(group) for group in place(large, small, 10).groups) == 1


def test_settings_decide() -> None:
    placement = place(
        config("resources.actors=3", "resources.cpus_per_actor=0.25", "resources.classes_per_group=2"), LAPTOP, 10
    )
    assert (placement.actors, placement.cpus_per_actor, placement.threads, len(placement.groups)) == (3, 0.25, 1, 5)


def test_what_no_node_can_hold_is_an_error() -> None:
    placement = place(config("resources.gpus_per_actor=1"), LAPTOP, 10)
    assert not fits(placement, LAPTOP)
    assert fits(placement, GPUS)
    error = does_not_fit(placement.cpus_per_actor, placement.gpus_per_actor, LAPTOP)
    assert isinstance(error, UserError)
    assert "1 GPUs" in str(error)
    assert "resources.gpus_per_actor" in str(error)


def test_a_head_without_cpus_holds_nothing() -> None:
    head = [Node(cpus=0, gpus=0, memory=8e9)]
    assert not fits(place(config(), head, 10), head)
    placement = place(config(), [*head, *LAPTOP], 10)
    assert (placement.actors, placement.cpus_per_actor, placement.gpus_per_actor) == (2, 1, 0)


def test_capacity_is_counted_node_by_node() -> None:
    assert capacity(4, 1, GPUS) == 8
    assert capacity(6, 1, GPUS) == 4
    assert capacity(1, 1, LAPTOP) == 0
    assert capacity(0.5, 0, LAPTOP) == 4


def test_memory_is_shared_by_the_actors_of_a_node_only() -> None:
    many = [Node(cpus=4, gpus=0, memory=64e9)] * 16
    wanted = config("condense.images_per_class=50")
    assert len(place(wanted, many, 100).groups) == 64  # one round of 64 actors: 16 GB each hold two classes


def test_a_run_that_began_on_gpus_does_not_resume_without() -> None:
    first = place(config(), GPUS, 10)
    again = stored_placement(first.stored(), place(config(), LAPTOP, 10), config().resources)
    assert (again.gpus_per_actor, again.cpus_per_actor) == (1, 4)
    assert not fits(again, LAPTOP)
    without = config("resources.gpus_per_actor=0")
    assert stored_placement(first.stored(), place(without, LAPTOP, 10), without.resources).gpus_per_actor == 0


def test_nodes_are_not_added_up() -> None:
    placement = place(config("resources.cpus_per_actor=24"), GPUS, 10)
    assert not fits(placement, GPUS)


@pytest.mark.parametrize("nodes", [LAPTOP, GPUS])
def test_a_resumed_run_keeps_its_groups(nodes: list[Node]) -> None:
    first = place(config("resources.classes_per_group=3"), LAPTOP, 10)
    again = stored_placement(first.stored(), place(config(), nodes, 10), config().resources)
    assert again.groups == first.groups
    assert again.threads == first.threads
    assert again.actors <= len(again.groups)


def gpus_for(settings: RunConfig, holds: list[int]) -> list[Node]:
    """One node per number of classes, which fit into the memory of its GPU."""
    views, pixels, width = settings.condense.views, settings.data.image_size**2, settings.encoder.width
    one_class = views * pixels * width * ACTIVATION_BYTES / MEMORY_SHARE
    return [Node(cpus=4, gpus=1, memory=64e9, gpu_memory=one_class * (count + 0.5)) for count in holds]


@pytest.mark.parametrize(
    ("holds", "classes", "sizes"),
    [
        ([8, 2], 10, [8, 2]),  # each as many as fit
        ([8, 2], 6, [4, 2]),  # no larger than necessary
        ([8, 2], 3, [2, 1]),
        ([8, 2], 20, [8, 2, 8, 2]),  # two rounds
        ([8, 4, 4], 15, [7, 4, 4]),
        ([8, 8, 2], 7, [3, 2, 2]),
        ([4, 4], 10, [2, 3, 2, 3]),  # equal GPUs
        ([1, 1, 8], 2, [1, 1]),
    ],
)
def test_groups_are_as_large_as_the_memory_of_each_gpu(holds: list[int], classes: int, sizes: list[int]) -> None:
    settings = config()
    groups = place(settings, gpus_for(settings, holds), classes).groups
    assert [len(group) for group in groups] == sizes
    assert [label for group in groups for label in group] == list(range(classes))


@given(st.lists(st.integers(1, 40), min_size=1, max_size=8), st.integers(1, 200))
def test_every_class_has_a_place_that_it_fits(holds: list[int], classes: int) -> None:
    settings = config()
    groups = place(settings, gpus_for(settings, holds), classes).groups
    assert [label for group in groups for label in group] == list(range(classes))
    assert max(map(len, groups)) <= max(holds)
    # There are no more groups of a size than actors that can hold it, times rounds.
    actors = sorted(holds)[: min(len(holds), classes)]
    rounds = -(-classes // sum(actors))
    for size in map(len, groups):
        assert sum(len(group) >= size for group in groups) <= rounds * sum(limit >= size for limit in actors)


def test_a_gpu_of_unknown_memory_counts_as_16_gb() -> None:
    settings = config("data.image_size=128", "encoder.width=256", "condense.images_per_class=10")
    silent = [Node(cpus=4, gpus=1, memory=64e9)]
    reported = [Node(cpus=4, gpus=1, memory=64e9, gpu_memory=16e9)]
    larger = [Node(cpus=4, gpus=1, memory=64e9, gpu_memory=80e9)]
    assert place(settings, silent, 20).groups == place(settings, reported, 20).groups
    assert len(place(settings, larger, 20).groups) < len(place(settings, reported, 20).groups)
    half = config(
        "data.image_size=128", "encoder.width=256", "condense.images_per_class=10", "resources.gpus_per_actor=0.5"
    )
    assert max(map(len, place(half, larger, 20).groups)) <= fitting_classes(settings, 40e9)


def test_fewer_actors_than_gpus_count_on_the_smallest() -> None:
    settings = config("resources.actors=1")
    assert {len(group) for group in place(settings, gpus_for(settings, [1, 100]), 6).groups} == {1}


def test_the_smallest_gpu_is_one_of_known_memory() -> None:
    assert smallest_gpu([*GPUS, *LAPTOP]) == 0
    nodes = [Node(cpus=4, gpus=1, memory=64e9, gpu_memory=memory) for memory in (80e9, 24e9, 0)]
    assert smallest_gpu(nodes) == 24e9
