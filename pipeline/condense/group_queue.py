"""The groups of a run that are waiting, being condensed or failed, and which one an actor takes next. No Ray here."""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One attempt at a group."""

    group: int
    number: int
    """1 for the first attempt."""


class GroupQueue:
    """What is left to do. An attempt that was taken must be finished, failed or given back."""

    def __init__(self, groups: Sequence[Sequence[int]], todo: Iterable[int], attempts: int) -> None:
        """Queues the first attempts.

        Args:
            groups: labels of the classes of every group of the run.
            todo: numbers of the groups to condense, in their order.
            attempts: number of attempts after which a group is given up.
        """
        self._groups, self._attempts = groups, attempts
        self._waiting: dict[int, deque[Attempt]] = {}
        """By number of classes, in their order, so that taking a group does not look at all."""
        for group in todo:
            self._queue(Attempt(group=group, number=1))
        self._running: set[Attempt] = set()
        self._draining = False
        self.failed: dict[int, BaseException] = {}
        """Groups that failed, with the reason."""

    @property
    def has_waiting(self) -> bool:
        """Whether an actor can take a group now."""
        return bool(self._waiting)

    @property
    def unfinished(self) -> int:
        """Number of groups that are waiting or being condensed."""
        return sum(map(len, self._waiting.values())) + len(self._running)

    def take(self, capacity: int) -> Attempt:
        """Takes the waiting group that suits an actor best.

        Args:
            capacity: number of classes that fit into the actor's memory.
        """
        sizes = list(self._waiting)
        size = sizes[best_fit(sizes, capacity)]
        attempt = self._waiting[size].popleft()
        if not self._waiting[size]:
            del self._waiting[size]
        self._running.add(attempt)
        return attempt

    def finish(self, attempt: Attempt) -> None:
        """Removes a group whose attempt ended well."""
        self._running.remove(attempt)

    def fail(self, attempt: Attempt, error: BaseException) -> None:
        """Records that a group has failed; another attempt cannot help."""
        self._running.remove(attempt)
        self.failed[attempt.group] = error

    def give_back(self, attempt: Attempt, error: BaseException) -> bool:
        """Queues the next attempt at a group. After the last attempt the group fails; when draining it is dropped.

        Args:
            attempt: the attempt that broke off.
            error: reason if the group fails with it.

        Returns:
            Whether the group failed.
        """
        if not self._draining and attempt.number >= self._attempts:
            self.fail(attempt, error)
            return True
        self._running.remove(attempt)
        if not self._draining:
            self._queue(Attempt(group=attempt.group, number=attempt.number + 1))
        return False

    def drain(self) -> None:
        """Starts no more attempts: waiting groups are left to the next call, and so are those given back from now on."""
        self._draining = True
        self._waiting.clear()

    def _queue(self, attempt: Attempt) -> None:
        self._waiting.setdefault(len(self._groups[attempt.group]), deque()).append(attempt)


def best_fit(sizes: Sequence[int], capacity: int) -> int:
    """Index of the size that an actor takes: the first of the largest that fit, or else the smallest.

    Args:
        sizes: numbers of classes of waiting groups; at least one.
        capacity: number of classes that fit into the actor's memory.
    """
    # If only groups are left that are too large, one is taken nevertheless: blocks bound the memory of a step.
    return max(range(len(sizes)), key=lambda i: (sizes[i] if sizes[i] <= capacity else -sizes[i], -i))
