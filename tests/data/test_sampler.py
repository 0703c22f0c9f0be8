"""The order of training: a permutation for each epoch, shared out among processes."""

from __future__ import annotations

from collections import Counter

import pytest
from torch.utils.data import Dataset, DistributedSampler

from catpose.data.training import TrainSampler


class Numbers(Dataset[int]):
    def __init__(self, n: int) -> None:
        self.n = n

    def __len__(self) -> int:
        return self.n


def order(n: int, seed: int, epoch: int, rank: int = 0, world: int = 1) -> list[tuple[int, int]]:
    sampler = TrainSampler(Numbers(n), seed, rank, world, first_epoch=epoch)
    pairs = list(sampler)
    assert len(pairs) == len(sampler)
    return pairs


def test_each_epoch_is_a_permutation_of_its_own() -> None:
    orders = [[place for _, place in order(50, seed, epoch)] for seed in range(3) for epoch in range(3)]
    assert all(sorted(places) == list(range(50)) for places in orders)
    assert len({tuple(places) for places in orders}) == 9  # (seed 1, epoch 0) is not (seed 0, epoch 1)
    assert order(50, 1, 2) == order(50, 1, 2)
    assert {epoch for epoch, _ in order(50, 1, 2)} == {2}


@pytest.mark.parametrize("n", [1, 2, 7, 12, 13])
@pytest.mark.parametrize("world", [1, 2, 3, 5])
def test_processes_share_the_order_out(n: int, world: int) -> None:
    shares = [order(n, 4, 2, rank, world) for rank in range(world)]
    assert len({len(share) for share in shares}) == 1
    together = [pair for step in zip(*shares, strict=True) for pair in step]
    alone = order(n, 4, 2)
    assert together[:n] == alone
    assert len(together) < n + world
    counts = Counter(together)
    assert set(counts) == set(alone)
    if world <= n:
        assert max(counts.values()) <= 2


def test_each_pass_is_the_next_epoch_whatever_epoch_is_set() -> None:
    sampler = TrainSampler(Numbers(9), 3, first_epoch=4)
    for epoch in (4, 5, 6):
        sampler.set_epoch(0)
        assert list(sampler) == order(9, 3, epoch)


def test_lightning_leaves_it_in_place() -> None:
    assert isinstance(TrainSampler(Numbers(3), 0), DistributedSampler)
