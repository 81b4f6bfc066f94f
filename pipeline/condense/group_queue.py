"""Which group an actor takes next. No Ray here."""

from collections.abc import Sequence


def chosen(sizes: Sequence[int], held: int) -> int:
    """Which of the waiting groups an actor takes: the first of the largest that it has room for, else the smallest.

    Args:
        sizes: classes of every waiting group, in their order; at least one.
        held: classes that the actor has room for.
    """
    # What is too large is done all the same, where only such groups are left: blocks bound what a step really takes.
    return max(range(len(sizes)), key=lambda i: (sizes[i] if sizes[i] <= held else -sizes[i], -i))
