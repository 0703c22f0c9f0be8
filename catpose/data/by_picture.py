"""Crops by the picture that they are of, so that each picture is decoded once, and in batches nevertheless."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from torch.utils.data import Dataset

from catpose.data.dataset import CropDataset, Sample, collate
from catpose.errors import InputError


class PictureCrops(NamedTuple):
    """All crops of one picture."""

    place: int  # its place in `CocoSplit.images`
    samples: list[Sample]
    picture: np.ndarray | None  # (height, width, 4) uint8 RGBA where it is asked for
    fault: str | None = None  # why there are none


class PictureDataset(Dataset[PictureCrops]):
    """The crops of a dataset whose samples come picture by picture, as those of a split do; one item a picture.

    A picture that can't be read is an item too: what a worker raises would lose the others' work.

    Args:
        crops: whose `pictures` keep the last one decoded (`open_pictures` with "off").
        keep: hand the decoded pictures over as well.
    """

    def __init__(self, crops: CropDataset, keep: bool = False) -> None:
        self.crops = crops
        self.keep = keep
        of = crops.split.image_index[crops.instances]
        self._starts = np.flatnonzero(np.diff(of, prepend=-1))
        self._indices = of[self._starts]

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, item: int) -> PictureCrops:
        index, start = int(self._indices[item]), self._starts[item]
        stop = self._starts[item + 1] if item + 1 < len(self) else len(self.crops)
        try:
            samples = [self.crops[place] for place in range(start, stop)]
            return PictureCrops(index, samples, self.crops.pictures[index] if self.keep else None)
        except InputError as error:
            return PictureCrops(index, [], None, str(error))


def as_it_is(item: PictureCrops) -> PictureCrops:
    """For a loader of these: arrays stay arrays, which workers hand over without taking shared memory."""
    return item


class Batches:
    """The crops of pictures, `batch_size` at once, as `collate` puts them together.

    Each batch also holds `pictures`: the place and the pixels of each picture of which it has the last crop, where the
    pixels were handed over.

    Args:
        pictures: a loader of `PictureDataset`.
        n_crops: in all of them.
        unreadable: called with the place of a picture that can't be read, and the reason.
    """

    def __init__(
        self, pictures: Iterable[PictureCrops], n_crops: int, batch_size: int, unreadable: Callable[[int, str], None]
    ) -> None:
        self._pictures = pictures
        self._n_crops = n_crops
        self._batch_size = batch_size
        self._unreadable = unreadable

    def __len__(self) -> int:
        """Batches where every picture can be read."""
        return -(-self._n_crops // self._batch_size)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        waiting: list[tuple[Sample, tuple[int, np.ndarray] | None]] = []
        for place, samples, picture, fault in self._pictures:
            if fault is not None:
                self._unreadable(place, fault)
                continue
            waiting += [(sample, None) for sample in samples[:-1]]
            waiting.append((samples[-1], None if picture is None else (place, picture)))
            while len(waiting) >= self._batch_size:
                yield _batch(waiting[: self._batch_size])
                waiting = waiting[self._batch_size :]
        if waiting:
            yield _batch(waiting)


def _batch(rows: list[tuple[Sample, tuple[int, np.ndarray] | None]]) -> dict[str, Any]:
    return {**collate([sample for sample, _ in rows]), "pictures": [ended for _, ended in rows if ended is not None]}
