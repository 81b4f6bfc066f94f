"""Groups and placement: pure decisions."""

import pytest

from pipeline.config import RunConfig, with_settings
from pipeline.errors import UserError
from pipeline.plan import Node, capacity, does_not_fit, fits, place, stored_placement

LAPTOP = [Node(cpus=2, gpus=0, memory=16e9)]
GPUS = [Node(cpus=16, gpus=4, memory=400e9), Node(cpus=16, gpus=4, memory=400e9)]


def config(*settings: str) -> RunConfig:
    return with_settings(RunConfig(), settings)


def test_cpus_without_being_told() -> None:
    made = place(config(), LAPTOP, 10)
    assert (made.actors, made.cpus_per_actor, made.gpus_per_actor, made.threads) == (2, 1, 0, 1)
    assert made.groups == (tuple(range(5)), tuple(range(5, 10)))


def test_one_actor_per_gpu() -> None:
    made = place(config(), GPUS, 100)
    assert (made.actors, made.cpus_per_actor, made.gpus_per_actor) == (8, 4, 1)
    assert sorted(len(group) for group in made.groups) == [12] * 4 + [13] * 4


def test_fractions_of_a_gpu() -> None:
    made = place(config("resources.gpus_per_actor=0.5"), GPUS, 100)
    assert (made.actors, made.cpus_per_actor, made.gpus_per_actor) == (16, 2, 0.5)


def test_many_cpus_and_few_classes_share_out_the_threads() -> None:
    made = place(config(), [Node(cpus=64, gpus=0, memory=256e9)], 4)
    assert (made.actors, made.cpus_per_actor, made.threads) == (4, 16, 16)


def test_every_class_is_in_exactly_one_group() -> None:
    for size in (1, 3, 7, 10, 20):
        made = place(config(f"resources.classes_per_group={size}"), GPUS, 10)
        assert sorted(label for group in made.groups for label in group) == list(range(10))
        assert max(len(group) for group in made.groups) <= size
        assert made.actors <= len(made.groups)


def test_memory_bounds_the_group() -> None:
    small = [Node(cpus=2, gpus=0, memory=2e9)]
    large = config("condense.images_per_class=50", "data.image_size=64")
    assert max(len(group) for group in place(large, small, 10).groups) == 1


def test_settings_win() -> None:
    made = place(
        config("resources.actors=3", "resources.cpus_per_actor=0.25", "resources.classes_per_group=2"), LAPTOP, 10
    )
    assert (made.actors, made.cpus_per_actor, made.threads, len(made.groups)) == (3, 0.25, 1, 5)


def test_what_no_node_can_hold_is_said() -> None:
    made = place(config("resources.gpus_per_actor=1"), LAPTOP, 10)
    assert not fits(made, LAPTOP)
    assert fits(made, GPUS)
    error = does_not_fit(made.cpus_per_actor, made.gpus_per_actor, LAPTOP)
    assert isinstance(error, UserError)
    assert "1 GPUs" in str(error)
    assert "resources.gpus_per_actor" in str(error)


def test_a_head_without_cpus_holds_nothing() -> None:
    head = [Node(cpus=0, gpus=0, memory=8e9)]
    assert not fits(place(config(), head, 10), head)
    made = place(config(), [*head, *LAPTOP], 10)
    assert (made.actors, made.cpus_per_actor, made.gpus_per_actor) == (2, 1, 0)


def test_capacity_is_counted_node_by_node() -> None:
    assert capacity(4, 1, GPUS) == 8
    assert capacity(6, 1, GPUS) == 4
    assert capacity(1, 1, LAPTOP) == 0
    assert capacity(0.5, 0, LAPTOP) == 4


def test_memory_is_shared_by_the_actors_of_a_node_only() -> None:
    many = [Node(cpus=4, gpus=0, memory=64e9)] * 16
    wanted = config("condense.images_per_class=50")
    assert len(place(wanted, many, 100).groups) == 64  # one round of 64 actors: 16 GB each hold two classes


def test_a_run_that_began_on_gpus_does_not_go_on_without() -> None:
    first = place(config(), GPUS, 10)
    again = stored_placement(first.as_dict(), place(config(), LAPTOP, 10), config().resources)
    assert (again.gpus_per_actor, again.cpus_per_actor) == (1, 4)
    assert not fits(again, LAPTOP)
    chosen = config("resources.gpus_per_actor=0")
    assert stored_placement(first.as_dict(), place(chosen, LAPTOP, 10), chosen.resources).gpus_per_actor == 0


def test_nodes_are_not_added_up() -> None:
    made = place(config("resources.cpus_per_actor=24"), GPUS, 10)
    assert not fits(made, GPUS)


@pytest.mark.parametrize("nodes", [LAPTOP, GPUS])
def test_a_run_that_goes_on_keeps_its_groups(nodes: list[Node]) -> None:
    first = place(config("resources.classes_per_group=3"), LAPTOP, 10)
    again = stored_placement(first.as_dict(), place(config(), nodes, 10), config().resources)
    assert again.groups == first.groups
    assert again.threads == first.threads
    assert again.actors <= len(again.groups)
