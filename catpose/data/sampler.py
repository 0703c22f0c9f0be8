"""The order of an epoch's samples, and each process's share of them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch.utils.data import DistributedSampler

from catpose.data.training import TrainingSet


class TrainSampler(DistributedSampler):
    """All samples, shuffled anew each epoch, as (epoch, place) pairs.

    The order is drawn from (seed, epoch) and is the same in all processes, of which each takes every `world`-th sample.
    Where the number of samples is no multiple of `world`, the order goes on with its own beginning, so that all
    processes have equally many.

    Each pass over the sampler is an epoch, starting at `first_epoch`. `set_epoch` is ignored: when Lightning calls it,
    the loader's workers have already fetched the first batches.

    It is a DistributedSampler so that Lightning doesn't replace it by its own.

    Args:
        first_epoch: epoch of the first pass; a resumed run's is the number of epochs that its checkpoint finished.
    """

    def __init__(self, dataset: TrainingSet, seed: int, rank: int = 0, world: int = 1, first_epoch: int = 0) -> None:
        super().__init__(dataset, num_replicas=world, rank=rank, seed=seed)
        self._n = len(dataset)
        self._next_epoch = first_epoch

    def __iter__(self) -> Iterator[tuple[int, int]]:
        epoch, self._next_epoch = self._next_epoch, self._next_epoch + 1
        order = np.random.default_rng((self.seed, epoch)).permutation(self._n)
        share = np.resize(order, self.total_size)[self.rank :: self.num_replicas]
        return iter([(epoch, place) for place in share.tolist()])

    def set_epoch(self, epoch: int) -> None:
        """Ignored; passes are counted instead."""
