"""What an epoch of training draws from, one data set or several; its order, and each process's share of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Dataset, DistributedSampler

from catpose.data.dataset import ANY_EPOCH, CropDataset, Sample


class TrainingSet(Dataset[Sample]):
    """The samples of an epoch, each by (epoch, place); which one that is follows from the seed and these alone.

    Args:
        phases: (first epoch, one `CropDataset` for each data set) in the order of the epochs, the first from 0 on: the
            same instances in each, under other changes.
        counts: samples an epoch has of each data set. As many as there are: each once. Fewer: others in each epoch.
            More: each as often as any other, but for one.
        seed: of that choice.
    """

    def __init__(
        self, phases: Sequence[tuple[int, Sequence[CropDataset]]], counts: Sequence[int], seed: int = 0
    ) -> None:
        self.phases, self.counts, self.seed = phases, counts, seed
        self.input_size = phases[0][1][0].input_size
        self._starts = np.cumsum([0, *counts])
        self._orders: dict[int, tuple[int, np.ndarray]] = {}  # by data set, that of the epoch asked for last

    def __len__(self) -> int:
        """Samples of an epoch."""
        return int(self._starts[-1])

    def __getitem__(self, key: int | tuple[int, int]) -> Sample:
        """The sample at a place, or that of (epoch, place)."""
        epoch, place = key if isinstance(key, tuple) else (ANY_EPOCH, key)
        which = int(np.searchsorted(self._starts, place, side="right")) - 1
        parts = [parts for first, parts in self.phases if first <= max(epoch, 0)][-1]
        index = self._index(which, place - int(self._starts[which]), len(parts[which]), max(epoch, 0))
        return parts[which].sample(index, epoch, draw=place)

    def _index(self, which: int, place: int, n: int, epoch: int) -> int:
        if self.counts[which] == n:
            return place
        if self._orders.get(which, (-1,))[0] != epoch:
            self._orders[which] = epoch, np.random.default_rng((self.seed, epoch, which, 1)).permutation(n)
        return int(self._orders[which][1][place % n])


def first_pictures(image_index: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Whether each instance is on one of the first `n` pictures of an order that the seed draws, (N,) bool.

    Fewer are part of more: the first 25 are among the first 50.

    Args:
        image_index: (N,), the picture of each instance.
    """
    pictures = np.unique(image_index)
    return np.isin(image_index, np.random.default_rng((seed, 2)).permutation(pictures)[:n])


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
