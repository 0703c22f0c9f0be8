"""Groups are those of relabelling everything at each step, each known by its lowest."""

from __future__ import annotations

import random

import pytest

from catpose.data.groups import Groups


@pytest.mark.parametrize("seed", range(5))
def test_groups_are_those_of_relabelling_everything(seed: int) -> None:
    dice, n = random.Random(seed), 40
    groups, labels = Groups({i: i for i in range(n)}), [*range(n)]
    for _ in range(30):
        one, other = dice.randrange(n), dice.randrange(n)
        a, b = sorted((labels[one], labels[other]))
        assert groups.join(one, other) == (a != b)
        labels = [a if label == b else label for label in labels]
        assert [groups.of(i) for i in range(n)] == labels


def test_groups_that_are_there_already_keep_what_they_are_known_by() -> None:
    groups = Groups({1: 3, 2: 2, 3: 3, 4: 3})
    assert [groups.of(thing) for thing in (1, 2, 3, 4)] == [3, 2, 3, 3]
    assert groups.join(4, 2)
    assert [groups.of(thing) for thing in (1, 2, 3, 4)] == [2, 2, 2, 2]


def test_a_long_chain_is_walked_once() -> None:
    n = 200_000
    groups = Groups({i: max(0, i - 1) for i in range(n)})
    assert {groups.of(i) for i in range(n - 1, -1, -1)} == {0}
