"""Which samples an epoch holds, in which order, and which of them a process takes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch.utils.data import DistributedSampler

from catpose.data.dataset import CropDataset


class TrainSampler(DistributedSampler):
    """All samples, shuffled anew each epoch, as (epoch, place) pairs.

    The order is drawn from (seed, epoch) and is the same in all processes, of which each takes every `world`-th sample.
    Where the number of samples is no multiple of `world`, the order goes on with its own beginning, so that all
    processes have equally many. Lightning calls `set_epoch` before each epoch, also of a resumed run.

    Being a DistributedSampler keeps Lightning from putting one of its own in its place.
    """

    def __init__(self, dataset: CropDataset, seed: int, rank: int = 0, world: int = 1) -> None:
        super().__init__(dataset, num_replicas=world, rank=rank, seed=seed)
        self._n = len(dataset)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self._n)
        for place in np.resize(order, self.total_size)[self.rank :: self.num_replicas]:
            yield self.epoch, int(place)
