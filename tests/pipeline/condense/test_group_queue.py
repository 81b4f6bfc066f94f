"""The queue of groups: attempts, giving up, draining, and which group an actor takes. No Ray here."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline.condense.group_queue import Attempt, GroupQueue, best_fit
from pipeline.runtime.placement import ACTIVATION_BYTES, MEMORY_SHARE, NO_BOUND, fitting_classes
from tests.pipeline.support.runs import small_config

GROUPS = ((0, 1), (2, 3), (4,))
ERROR = RuntimeError("lost")


def queue_of(*todo: int, attempts: int = 3) -> GroupQueue:
    return GroupQueue(GROUPS, todo, attempts)


def test_an_actor_takes_the_largest_group_that_fits() -> None:
    sizes = [2, 8, 1, 8, 2]
    assert best_fit(sizes, 8) == 1
    assert best_fit(sizes, 7) == 0
    assert best_fit(sizes, 1) == 2
    assert best_fit([8, 4, 4], 2) == 1  # nothing fits: the smallest
    assert best_fit(sizes, NO_BOUND) == 1


def test_an_actor_gets_the_group_that_suits_its_memory() -> None:
    config = small_config()
    one_class = config.condense.views * 8**2 * 8 * ACTIVATION_BYTES / MEMORY_SHARE
    queue = GroupQueue(((0,), (1, 2, 3)), [0, 1], attempts=3)

    def take(memory: float) -> Attempt:
        return queue.take(fitting_classes(config, memory))

    small = take(1.5 * one_class)
    large = take(1.5 * one_class)
    assert (small, large) == (Attempt(group=0, number=1), Attempt(group=1, number=1))
    queue.give_back(small, ERROR)
    queue.give_back(large, ERROR)
    assert take(3.5 * one_class) == Attempt(group=1, number=2)
    assert take(0.0) == Attempt(group=0, number=2)


def test_only_the_groups_asked_for_are_queued() -> None:
    queue = queue_of(1, 2)
    assert [queue.take(NO_BOUND).group, queue.take(NO_BOUND).group] == [1, 2]
    assert not queue.has_waiting


def test_a_group_counts_until_it_is_finished_or_has_failed() -> None:
    queue = queue_of(0, 1, 2)
    first, second, third = (queue.take(NO_BOUND) for _ in range(3))
    assert queue.unfinished == 3
    queue.finish(first)
    queue.fail(second, ERROR)
    assert queue.unfinished == 1
    assert queue.failed == {1: ERROR}
    queue.give_back(third, ERROR)
    assert queue.unfinished == 1
    assert queue.has_waiting


def test_a_group_is_given_up_after_its_last_attempt() -> None:
    queue = queue_of(0, attempts=3)
    outcomes = []
    while queue.has_waiting:
        outcomes.append(queue.give_back(queue.take(NO_BOUND), ERROR))
    assert outcomes == [False, False, True]
    assert queue.failed == {0: ERROR}
    assert not queue.unfinished


def test_a_single_attempt_is_the_last() -> None:
    queue = queue_of(0, attempts=1)
    assert queue.give_back(queue.take(NO_BOUND), ERROR)


def test_draining_leaves_the_rest_to_the_next_call() -> None:
    queue = queue_of(0, 1, 2, attempts=1)
    first, second = queue.take(NO_BOUND), queue.take(NO_BOUND)
    queue.drain()
    assert not queue.has_waiting
    assert queue.unfinished == 2  # their actors save checkpoints
    queue.finish(first)
    assert not queue.give_back(second, ERROR)  # the last attempt broke off, but it is no failure
    assert not queue.unfinished
    assert not queue.failed


@given(
    todo=st.lists(st.integers(0, 2), unique=True),
    attempts=st.integers(1, 4),
    choices=st.lists(st.sampled_from(["finish", "fail", "give back"]), min_size=12, max_size=12),
)
def test_every_group_ends_once(todo: list[int], attempts: int, choices: list[str]) -> None:
    queue, finished, tries = GroupQueue(GROUPS, todo, attempts), [], dict.fromkeys(todo, 0)
    for choice in choices:
        if not queue.has_waiting:
            break
        attempt = queue.take(NO_BOUND)
        tries[attempt.group] += 1
        assert attempt.number == tries[attempt.group] <= attempts
        if choice == "finish":
            queue.finish(attempt)
            finished.append(attempt.group)
        elif choice == "fail":
            queue.fail(attempt, ERROR)
        else:
            assert queue.give_back(attempt, ERROR) == (attempt.number == attempts)
    assert not queue.unfinished
    assert sorted([*finished, *queue.failed]) == sorted(todo)
