"""Things that belong together, over any number of steps: a union-find of disjoint sets."""

from __future__ import annotations

from collections.abc import Mapping


class Groups:
    """Things by their numbers, in groups.

    Args:
        first: for each thing another of its group, or itself.
    """

    def __init__(self, first: Mapping[int, int]) -> None:
        self._parent = dict(first)

    def of(self, thing: int) -> int:
        """The thing that a group is known by; the way to it is halved, or a long chain would be walked each time."""
        parent = self._parent
        while parent[thing] != thing:
            parent[thing] = thing = parent[parent[thing]]
        return thing

    def join(self, one: int, other: int) -> bool:
        """Make one group of theirs, known by the lower of both; False where they are one already."""
        a, b = sorted((self.of(one), self.of(other)))
        self._parent[b] = a
        return a != b
